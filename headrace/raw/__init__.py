"""Capture: writes the rows that connectors read as data files of raw, which keeps all versions."""
