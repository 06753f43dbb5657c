"""Types and values: numbers, times and texts, as engine expressions."""
