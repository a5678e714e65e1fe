"""All that plugs into Hydra: callback, sweepers and launchers.

Hydra imports these modules at every start, except `job` and what `search/sweeper.py` and the launchers import
only when they run: keep them light.
"""
