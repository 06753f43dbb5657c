"""How the processes of runs, of the daemon and of the web server start."""
