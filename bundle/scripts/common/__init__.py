"""Errors, files, options and progress that every stage shares."""
