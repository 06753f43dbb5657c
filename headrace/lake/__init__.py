"""The lake: Iceberg tables whose files an engine writes and whose commits are made here."""
