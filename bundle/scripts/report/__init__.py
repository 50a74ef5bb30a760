"""Pages and figures for people: what a model said of slides, why, and how far that can be trusted."""
