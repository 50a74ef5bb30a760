"""The libraries that decode slides, each behind the same reader."""
