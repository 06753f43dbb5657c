"""What reaches below Dagster's public API: how the processes of runs start."""
