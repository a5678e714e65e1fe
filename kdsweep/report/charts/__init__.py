"""The charts of a report: each module computes one, as data that the page and the PNG files draw."""
