"""What assets need at run time: databases, the lake, the engine, the landing zone."""
