"""DSNet and what it is compared with on one set of slides: ``make compare``."""
