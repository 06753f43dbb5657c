"""Collections of MongoDB as a source that can be assessed."""
