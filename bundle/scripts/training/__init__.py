"""Training of DSNet from embeddings and slide labels."""
