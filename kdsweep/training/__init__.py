"""Training a stage and evaluating what it gave. Knows nothing of tracking: it yields events."""
