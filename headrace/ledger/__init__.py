"""The ledger: outcome and inputs of every partition, and which partitions are stale."""
