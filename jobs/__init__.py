"""Jobs and schedules, and running a backfill from the command line."""
