"""The star schema: dimensions with history, facts with keys as of their event time."""
