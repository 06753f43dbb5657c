"""Type 2 dimensions: change events, versions, incremental updates."""
