"""The patch encoder S-CAE."""
