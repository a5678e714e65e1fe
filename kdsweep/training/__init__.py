"""Train and evaluate a stage. It reports by events and knows nothing of tracking."""
