"""The platform on an external benchmark, with that benchmark's data, baseline and checks.

Its folder has `stage.py` (data and expected answers), `peer_floor.py` (the baseline), `verify.py`
(checks of a warehouse) and `run_all.py` (other programs for the same task). This package has only
the platform's configuration for its files.
"""
