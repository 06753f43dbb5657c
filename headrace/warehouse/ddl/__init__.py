"""DDL of the warehouse: schema, partitions, indexes, constraints, grants, views."""
