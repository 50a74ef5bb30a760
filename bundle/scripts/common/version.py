"""Version of the bundle, the same as in ``configs/metadata.json``."""

BUNDLE_VERSION = "0.1.0"
