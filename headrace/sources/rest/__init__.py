"""REST APIs that answer JSON."""
