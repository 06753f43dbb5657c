"""Documents of nested objects and arrays: what connectors that read them share."""
