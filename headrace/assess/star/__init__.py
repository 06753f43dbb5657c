"""Proposes the star of declared sources: dimensions and facts, by their keys and sampled rows."""
