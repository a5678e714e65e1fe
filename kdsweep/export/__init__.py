"""A trained network on its way out: files for other programs, and what is told with them."""
