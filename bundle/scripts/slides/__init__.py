"""Slides: finding them, reading their patches, and where the patches lie."""
