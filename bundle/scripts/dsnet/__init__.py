"""Integration: the dual-stream network."""
