"""Star schema: type 2 dimensions, and facts with the keys valid at their event time."""
