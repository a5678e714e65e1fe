"""The export of a trained network: files for other programs, and a model card."""
