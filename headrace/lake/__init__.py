"""The lake: Iceberg tables. Engines write the files; this package commits them."""
