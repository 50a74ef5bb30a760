"""Operators of the application."""
