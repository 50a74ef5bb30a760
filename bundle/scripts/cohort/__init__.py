"""Cohorts: slide tables of data sets, and their splits."""
