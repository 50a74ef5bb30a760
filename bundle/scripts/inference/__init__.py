"""Inference on raw slides or embeddings, and heat maps."""
