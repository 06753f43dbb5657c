"""The warehouse: Postgres tables loaded by COPY, published whole or not at all."""
