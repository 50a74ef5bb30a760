"""Which patches of a slide hold tissue (section IV-C)."""
