"""What is shown of a sweep when it has ended: table, CSV and pictures."""
