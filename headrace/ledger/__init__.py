"""The ledger: what became of every partition, from which inputs it was built, what is stale."""
