"""Sensors: pure plans from cursor and listing to requests and cursor, wrapped thinly."""
