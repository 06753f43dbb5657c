"""Loading the warehouse: staging, COPY, merge, publication in one transaction."""
