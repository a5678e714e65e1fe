"""Optuna's search as a Hydra sweeper: it prunes, resumes by the same command, and waits for no batches."""
