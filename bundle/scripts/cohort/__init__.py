"""From a table of slides to cohorts: splits that do not leak."""
