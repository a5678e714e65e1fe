"""Report pages, read back."""

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import invented

from kdsweep.report.page import write_page
from kdsweep.results.record import Record
from kdsweep.results.result import JobResult


class Page:
    """The page of records, read back."""

    def __init__(self, folder: Path, *records: Record) -> None:
        self.file = folder / "report.html"
        write_page(records, self.file)
        self.html = self.file.read_text()
        self.text = re.sub(r"<script\b.*?</script>|<style>.*?</style>", "", self.html, flags=re.S)
        data = re.search(r'<script type="application/json" id="data">(.*?)</script>', self.html, re.S)
        assert data
        self.charts: dict[str, Any] = json.loads(data[1])["charts"]

    @property
    def sections(self) -> list[str]:
        return re.findall(r'<section id="(\w+)"', self.text)

    def table(self, label: str) -> list[list[str]]:
        found = re.search(rf'aria-label="{label}".*?</table>', self.text, re.S)
        assert found
        rows = re.findall(r"<tr>(.*?)</tr>", found[0], re.S)
        return [
            [unescape(re.sub(r"<[^>]*>", "", cell)) for cell in re.findall(r"<t[hd]\b.*?</t[hd]>", row, re.S)]
            for row in rows
        ]

    def trace(self, section: str, name: str, figure: int = 0, view: int = 0) -> dict[str, Any]:
        traces = self.charts[section][view]["figures"][figure]["data"]
        found = [trace for trace in traces if trace.get("name", "").startswith(name)]
        return min(found, key=lambda trace: len(trace["name"]))


NASTY = (
    "</script><script>alert(1)</script>",
    "<b>bold</b>",
    '"><img src=x onerror=alert(2)>',
    "a&b",
    "{{ 7 }}",
)


def nasty() -> Record:
    """A sweep whose every name is an attack."""
    record = invented.sweep({"student": NASTY[:2], "seed": (0, 1)}, classes=NASTY, name=NASTY[0])
    for job in record.results:
        job.recipe |= {"student": NASTY[2], "teacher": NASTY[0]}
        job.dataset["fingerprint"] = NASTY[0]
        for network in job.networks.values():
            network.name = NASTY[0]
    lost = JobResult(9, {"student": NASTY[2], "seed": 0}, error=NASTY[0])
    sweep = replace(
        record.sweep,
        command=f"kdsweep '{NASTY[0]}'",
        config={"name": NASTY[0]},
        versions={NASTY[1]: NASTY[2]},
    )
    return Record(sweep, [*record.results, lost])
