"""Collections of MongoDB."""
