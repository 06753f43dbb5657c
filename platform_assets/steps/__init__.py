"""How the steps of a run are planned, executed, recorded and ended."""
