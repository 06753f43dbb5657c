"""A process that stays, with everything imported, and runs the next command in a fork of itself."""
