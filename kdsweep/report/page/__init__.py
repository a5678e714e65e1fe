"""The report of a sweep as a page: charts and tables, which `write` puts together."""

from kdsweep.report.page.write import write_page

__all__ = ["write_page"]
