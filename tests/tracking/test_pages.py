"""A sweep in MLflow's own pages, in a real browser: its note, its jobs by tag, its charts."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import TINY, Command
from mlflow import MlflowClient

pytestmark = pytest.mark.browser

SWEEP = ("-m", "temperature=1,4,16", "alpha=0.1,0.5")
JOBS = (
    "searchFilter=tags.%60kdsweep.role%60%20%3D%20%27job%27"
    "&orderByKey=metrics.%60best%2Fval%2Faccuracy%60&orderByAsc=false"
)
PATIENCE = 60_000  # milliseconds that a page may take on a busy machine


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    opened = chromium.new_page(viewport={"width": 1500, "height": 1000})
    opened.set_default_timeout(PATIENCE)
    yield opened
    opened.close()


def shot(page: Any, name: str, **clip: int) -> None:
    """Kept for the docs where a folder is named: SCREENSHOTS=docs/images pytest -m browser."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.wait_for_timeout(1500)
        page.screenshot(path=Path(folder) / name, clip={"x": 0, "y": 0, **clip})


@pytest.mark.timeout(900)
def test_a_sweep_is_read_and_compared(kdsweep: Command, page, server):
    url, _ = server
    kdsweep(*SWEEP, *(() if "SCREENSHOTS" in os.environ else TINY), f"tracking.uri={url}")
    (experiment,) = MlflowClient(url).search_experiments(filter_string="name = 'kdsweep'")
    (parent,) = MlflowClient(url).search_runs([experiment.experiment_id], "tags.`kdsweep.role` = 'sweep'")
    pages = f"{url}/#/experiments/{experiment.experiment_id}/runs"

    page.goto(f"{pages}/{parent.info.run_id}?workflowType=machine_learning")
    page.locator('button[aria-label="Close"]').first.click()  # the assistant's panel
    page.get_by_text("Show more").click()
    page.get_by_text("of 6 recipes by validation").wait_for()
    assert page.locator("table", has_text="vs baseline").locator("tr").count() == 7
    picture = page.locator('img[src*="note.png"]')
    picture.wait_for()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 760
    shot(page, "mlflow_note.png", width=1000, height=800)

    page.goto(f"{pages}?workflowType=machine_learning&{JOBS}")
    page.get_by_text("6 matching runs").wait_for()
    for name in ("T=1 α=0.1", "T=16 α=0.5"):
        assert page.get_by_text(name, exact=True).count() == 1
    assert page.get_by_text("digits (").count() == 6
    page.goto(f"{pages}?workflowType=machine_learning&{JOBS}&compareRunsMode=CHART")
    page.get_by_text("best/val/accuracy").first.wait_for()
    assert page.get_by_text("chain/").count() == 0
    parallel_coordinates(page, ["alpha", "temperature"], ["best/val/accuracy", "test/accuracy"])
    page.get_by_text("Parallel Coordinates").wait_for()
    shot(page, "mlflow_charts.png", width=1500, height=665)


def parallel_coordinates(page: Any, params: list[str], metrics: list[str]) -> None:
    """As a person adds the chart: its kind, then params and metrics by typing their names."""
    page.get_by_text("Add chart").first.click()
    page.get_by_text("Parallel coordinates").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Add chart").click(trial=True)  # once it has slid in
    for number, names in ((1, params), (2, metrics)):
        dialog.get_by_role("combobox").nth(number).click(force=True)
        for name in names:
            page.keyboard.type(name)
            page.wait_for_timeout(500)
            for _ in range({"test/accuracy": 2}.get(name, 0)):  # after those of scratch and teacher
                page.keyboard.press("ArrowDown")
            page.keyboard.press("Enter")
        dialog.get_by_text("Chart type").click(force=True)
    dialog.get_by_role("button", name="Add chart").click()
