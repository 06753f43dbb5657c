"""The platform before a referee: a benchmark folder that is not ours, with its floor and checks.

The folder holds `stage.py` (data and expected answers), `peer_floor.py` (the floor), `verify.py`
(is a warehouse right?) and `run_all.py` (other programs that do the same). Nothing of it is copied
here; what is here is the platform's configuration for its files, YAML alone.
"""
