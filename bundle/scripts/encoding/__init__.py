"""Transformation: slides to embedding files."""
