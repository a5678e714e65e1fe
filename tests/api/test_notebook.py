"""In Jupyter's kernel: the example as it stands, the line that changes in place, Interrupt."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import invented
import nbformat
import pytest
from helpers import ROOT, epochs_done
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from kdsweep import Report
from kdsweep.report.page import write_page

EXAMPLE = ROOT / "examples" / "classic.ipynb"
SHORT = '"training.epochs=20", "teacher.training.epochs=2", "dataset.train_limit=300"'
LONG = (
    'kdsweep.run("method=scratch", "training.epochs=40", "training.batch_size=16", "dataset.train_limit=400")'
)


def client(notebook: Any, folder: Path) -> NotebookClient:
    return NotebookClient(notebook, timeout=250, resources={"metadata": {"path": str(folder)}})


def test_the_example_is_committed_without_outputs():
    notebook = nbformat.read(EXAMPLE, 4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 5
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.long
def test_the_example_runs_to_its_report(tmp_path):
    notebook = nbformat.read(EXAMPLE, 4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("range(3)", "range(1)")
        if cell.source.startswith(("job =", "sweep =")):
            cell.source = cell.source.removesuffix(")") + f", {SHORT})"
    client(notebook, tmp_path).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:
        places = [each for each in cell.outputs if each.output_type == "display_data"]
        assert len(places) <= 1, "one line changes in place, whatever is trained"
        assert all(not each.data["text/plain"] for each in places), "and is empty at the end"
        assert not [each for each in cell.outputs if each.get("name") == "stderr"]
    job, sweep = (text_of(cell) for cell in code[1:3])
    assert [line.split()[:2] for line in job.splitlines()[1:4]] == [
        [role, "trained"] for role in ("teacher", "scratch", "student")
    ]
    assert "epoch 1/" not in job
    assert "[2/3] T=4 seed=0" in sweep and sweep.count("reused") > 1
    (page,) = code[-1].outputs
    assert page.data["text/html"].startswith("<iframe srcdoc=")
    (table,) = tmp_path.glob("multirun/*/*/sweep.txt")
    assert table.read_text().startswith("          temperature"), "no signs for a terminal"


def text_of(cell: Any) -> str:
    return "".join(each.text for each in cell.outputs if each.get("name") == "stdout")


@pytest.mark.long
def test_interrupt_leaves_a_run_that_the_same_cell_resumes(tmp_path):
    cells = [nbformat.v4.new_code_cell(source) for source in ("import kdsweep", LONG, LONG)]
    kernel = client(nbformat.v4.new_notebook(cells=cells), tmp_path)

    def interrupt() -> None:
        deadline = time.monotonic() + 100
        while epochs_done(tmp_path) < 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        asyncio.run(kernel.km.interrupt_kernel())

    with kernel.setup_kernel():
        kernel.execute_cell(cells[0], 0)
        threading.Thread(target=interrupt).start()
        with pytest.raises(CellExecutionError, match="the same call again resumes"):
            kernel.execute_cell(cells[1], 1)
        assert 0 < epochs_done(tmp_path) < 40
        kernel.execute_cell(cells[2], 2)
    assert " of 40, " in text_of(cells[2])


@pytest.mark.browser
def test_the_report_in_a_cell_stays_there(chromium, tmp_path):
    """Its charts are drawn, and its links move within it, not to the notebook."""
    write_page([invented.sweep()], tmp_path / "report.html")
    outer = tmp_path / "notebook.html"
    outer.write_text(f"<h1>notebook</h1>{Report(tmp_path / 'report.html')._repr_html_()}")
    page = chromium.new_page()
    page.goto(outer.as_uri())
    frame = page.frame_locator("iframe")
    frame.locator("html[data-drawn=yes]").wait_for()
    frame.locator('nav a[href="#origin"]').click()
    page.wait_for_timeout(300)
    assert frame.locator("#origin").evaluate("each => each.getBoundingClientRect().top < innerHeight")
    assert frame.locator("h1").inner_text() != "notebook"
    page.close()
