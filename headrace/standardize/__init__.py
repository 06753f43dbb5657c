"""From captured text to typed rows."""
