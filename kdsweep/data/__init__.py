"""Image data sets: arrays and image files, read or decoded once, split and normalised."""
