"""The benchmark: the platform against a script written by hand for the same files."""
