"""How the commands end."""

DONE, FAILED, INTERRUPTED = 0, 1, 2
