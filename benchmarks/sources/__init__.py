"""How fast sources become raw, beside the least that reads the same rows, and beside dlt."""
