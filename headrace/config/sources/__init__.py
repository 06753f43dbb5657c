"""Models of sources and extracts, by connector."""
