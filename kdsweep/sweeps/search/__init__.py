"""Optuna's search as a Hydra sweeper: pruned, continued by the same command, without waiting for batches."""
