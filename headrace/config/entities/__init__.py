"""What every entity of a source declares."""
