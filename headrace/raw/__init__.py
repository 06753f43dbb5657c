"""Capture: what sources deliver becomes data files of raw, every version kept."""
