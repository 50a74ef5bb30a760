"""Patch encoders and their training."""
