"""Capture: what sources deliver becomes files of raw, every version of it kept."""
