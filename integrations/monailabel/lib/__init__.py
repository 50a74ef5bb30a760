"""The app's parts: the bundle it serves, inference, training."""
