"""The paper's Tables III to V on any dataset: ``make ablations``."""
