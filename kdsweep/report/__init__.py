"""The report of a sweep: tables, CSV, charts, the page and the pictures."""
