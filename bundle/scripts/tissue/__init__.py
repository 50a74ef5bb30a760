"""Stage 3: which patches of a slide hold tissue (section IV-C)."""
