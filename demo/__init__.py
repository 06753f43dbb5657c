"""The demo: stages real retail sales as the files that a shop would deliver."""
