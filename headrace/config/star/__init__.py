"""Models of the star: dimensions, facts, outriggers."""
