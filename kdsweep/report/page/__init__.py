"""The report of a sweep as a page: each module makes a section, `write` puts them together."""

from kdsweep.report.page.write import write_page

__all__ = ["write_page"]
