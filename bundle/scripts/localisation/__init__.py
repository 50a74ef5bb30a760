"""Heat maps against lesion masks."""
