"""The former path of the run launcher, which a user's `dagster.yaml` may name."""
