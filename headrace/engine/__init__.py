"""The engine: Spark Connect sessions, and what must mean the same on Sail and on Spark."""
