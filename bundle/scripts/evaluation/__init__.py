"""Figures of merit with intervals, and the table of predictions."""
