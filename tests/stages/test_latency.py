"""Latency is measured of all networks in turns, while nothing else is at work, or is withheld."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import invented
import pytest
import torch
from helpers import CNN, MLP, Command, composed, make_dataset, make_stage
from pages import Page

from kdsweep.analysis.combine import together
from kdsweep.analysis.leaderboard import leaderboard
from kdsweep.config.parse import parse
from kdsweep.errors import ConfigError, KdsweepError
from kdsweep.export.card import _cost
from kdsweep.export.chosen import Chosen
from kdsweep.networks.cost import FEWEST_RUNS, LEAST_SECONDS, RUNS, Built, Sized, built, latencies
from kdsweep.report.tables import busy, costs
from kdsweep.results.network import Cost
from kdsweep.results.result import Latency
from kdsweep.stage import digest
from kdsweep.stages import latency
from kdsweep.stages.figures import priced
from kdsweep.store.store import Store
from kdsweep.sweeps import checks

DATASET = make_dataset()
NETWORKS = {digest(each): each for each in (priced(make_stage(model), DATASET) for model in (CNN, MLP))}
MODELS = dict(zip(NETWORKS, (CNN, MLP), strict=True))
CORES = os.cpu_count() or 1


class Timed(torch.nn.Module):
    """Takes the seconds it is told, one run after the other; notes who runs, and how images lie."""

    runs: list[str] = []  # noqa: RUF012
    seconds: dict[str, list[float]] = {}  # noqa: RUF012

    def __init__(self, num_classes: int, in_channels: int, image_size: tuple[int, int], name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.is_contiguous(memory_format=torch.channels_last) and not self.training
        assert torch.get_num_threads() == 1 and not torch.is_grad_enabled()
        self.runs.append(self.name)
        time.sleep(self.seconds[self.name].pop() if self.seconds[self.name] else 0.01)
        return images


def timed(name: str) -> Built:
    return built(Sized({"_target_": f"{__name__}.Timed", "name": name}, 3, (3, 8, 8)))


def test_networks_run_in_turns_and_the_least_of_their_runs_counts():
    Timed.runs.clear()
    Timed.seconds = {"a": [0.05, 0.002, 0.05], "b": [0.001]}
    threads = torch.get_num_threads()
    a, b = latencies([timed("a"), timed("b")])
    assert torch.get_num_threads() == threads
    assert 2 <= a < 10 and 1 <= b < 10, "milliseconds"
    assert Timed.runs == ["a", "b"] * (len(Timed.runs) // 2)
    assert len(Timed.runs) >= 2 * min(RUNS, LEAST_SECONDS / 0.02)


def test_slow_networks_run_a_few_times(monkeypatch):
    monkeypatch.setattr("kdsweep.networks.cost.SECONDS", 0.0)
    Timed.runs.clear()
    Timed.seconds = {"a": [0.05] * 9}
    latencies([timed("a")])
    assert len(Timed.runs) == FEWEST_RUNS


LOUD = Latency({}, 1.73, 2, "x, 2 cores")


class Machine:
    """A machine that is as busy as it is told, look by look: a share of its cores."""

    def __init__(self, monkeypatch, *loads: float) -> None:
        self.loads, self.looks = list(loads), 0
        monkeypatch.setattr(latency.Load, "cores", property(lambda load: self.look()))

    def look(self) -> float:
        self.looks += 1
        return self.loads.pop(0) * CORES


def test_a_quiet_machine_is_measured_once(tmp_path, monkeypatch):
    machine = Machine(monkeypatch, 0.0, 0.1)
    taken = latency.latency(NETWORKS, MODELS, Store(tmp_path))
    assert taken.ms.keys() == NETWORKS.keys() and all(0 < ms < 1000 for ms in taken.ms.values())
    assert (taken.load, taken.cores) == (pytest.approx(0.1 * CORES, abs=0.01), CORES)
    again = latency.latency(dict(reversed(NETWORKS.items())), MODELS, Store(tmp_path))
    assert again == taken and machine.looks == 2, "found in the store, in whatever order they come"


def test_the_same_networks_are_not_found_on_another_kind_of_machine(tmp_path, monkeypatch):
    machine = Machine(monkeypatch, 0, 0, 0, 0)
    latency.latency(NETWORKS, MODELS, Store(tmp_path))
    monkeypatch.setattr(latency, "_processor", lambda: "another")
    taken = latency.latency(NETWORKS, MODELS, Store(tmp_path))
    assert machine.looks == 4 and taken.machine == f"another, {CORES} cores"


@pytest.mark.parametrize("loads", [(0.5,), (0.0, 0.5)], ids=["before", "meanwhile"])
def test_a_busy_machine_is_not_and_is_tried_again(tmp_path, monkeypatch, loads):
    Machine(monkeypatch, *loads, 0.0, 0.0)
    taken = latency.latency(NETWORKS, MODELS, Store(tmp_path))
    assert taken.ms == {} and taken.load == 0.5 * CORES
    assert busy(taken) == f"{0.5 * CORES:.1f} of {CORES} cores were busy with something else"
    assert latency.latency(NETWORKS, MODELS, Store(tmp_path)).ms, "the busy measurement was not kept"


def test_torch_is_not_imported_to_see_that_a_machine_is_busy(tmp_path):
    code = (
        "import sys; from kdsweep.stages import latency; from kdsweep.store.store import Store;"
        f"latency.BUSY = -1; latency.latency({NETWORKS!r}, {MODELS!r}, Store({str(tmp_path)!r}));"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_network_that_cannot_be_built_costs_the_latency_alone(tmp_path, monkeypatch, caplog):
    Machine(monkeypatch, 0.0)
    broken = {"key": {"_target_": "nowhere.Network"}}
    described = {"key": {"cost": broken["key"], "classes": 3, "shape": (1, 8, 8)}}
    assert latency.latency(described, broken, Store(tmp_path)) is None
    assert "latency is not measured" in caplog.text


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="Linux tells how busy it is")
def test_the_load_is_what_others_do():
    spinning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    load = latency.Load()
    try:
        time.sleep(0.2)
        with load.watched():
            time.sleep(1)
    finally:
        spinning.kill()
        spinning.wait()
    assert 0.3 < load.cores < CORES + 0.1


def test_the_load_leaves_out_this_thread_and_what_is_not_watched(monkeypatch):
    busy = iter([10.0, 16.0, 100.0, 101.0])
    monkeypatch.setattr(latency, "_busy_seconds", lambda: next(busy))
    monkeypatch.setattr(time, "thread_time", iter([1.0, 3.0, 50.0, 50.5]).__next__)
    monkeypatch.setattr(time, "perf_counter", iter([0.0, 4.0, 70.0, 71.0]).__next__)
    load = latency.Load()
    for _ in range(2):
        with load.watched():
            pass
    assert load.cores == pytest.approx(((6 - 2) + (1 - 0.5)) / (4 + 1))


def test_where_that_is_not_told_the_load_average_is_taken(monkeypatch):
    monkeypatch.setattr(latency, "_busy_seconds", lambda: None)
    monkeypatch.setattr(os, "getloadavg", lambda: (1.25, 9.0, 9.0))
    load = latency.Load()
    with load.watched():
        pass
    assert load.cores == 1.25


def test_networks_that_fill_the_memory_together_are_measured_in_groups(monkeypatch):
    groups = []
    monkeypatch.setattr(latency, "GROUP", 1)
    monkeypatch.setattr(
        "kdsweep.networks.cost.latencies", lambda group: groups.append(group) or [1.0] * len(group)
    )
    measured, _ = latency._measure(NETWORKS, MODELS)
    assert measured == dict.fromkeys(NETWORKS, 1.0) and [len(group) for group in groups] == [1, 1]


@pytest.mark.parametrize(("at_once", "said"), [(4, "4 jobs"), (None, "several jobs")])
def test_jobs_that_disturb_each_other_cannot_search_for_latency(monkeypatch, at_once, said):
    monkeypatch.setattr(checks, "jobs_at_once", lambda config: at_once)
    first = parse(composed("objective=[val/accuracy,cost/latency_ms]"))
    with pytest.raises(ConfigError, match=rf"objective=cost/latency_ms: .* {said} at a time .* hardware=cpu"):
        checks.refuse_disturbed_objective(composed(), first)
    checks.refuse_disturbed_objective(composed(), parse(composed("objective=[val/accuracy,cost/flops]")))
    monkeypatch.setattr(checks, "jobs_at_once", lambda config: 1)
    checks.refuse_disturbed_objective(composed(), first)


def test_the_command_refuses_it_before_anything_runs(kdsweep: Command, tmp_path):
    objective = "objective=[val/accuracy,cost/latency_ms]"
    done = kdsweep("-m", "hardware=cpu_parallel", "hardware.jobs=2", "search=pareto", objective, status=1)
    assert done.stderr.startswith("kdsweep: objective=cost/latency_ms: it is measured, and 2 jobs at a time")
    assert not list(tmp_path.glob("multirun/**/result.json"))


def test_an_objective_waits_for_a_quiet_machine_and_not_for_ever(monkeypatch):
    monkeypatch.setattr(latency, "SECONDS_BETWEEN_ATTEMPTS", 0.0)
    loud = replace(LOUD, load=1.5)
    answers = [loud, loud, replace(loud, ms={"key": 0.1})]
    monkeypatch.setattr(latency, "measure", lambda jobs: answers.pop(0))
    assert latency.measure_when_quiet(None) == {"key": 0.1}
    answers = [loud] * 9
    with pytest.raises(KdsweepError, match=r"objective=cost/latency_ms: 1\.5 of 2 cores were busy"):
        latency.measure_when_quiet(None)


def without_latency(record):
    for result in record.results:
        for network in result.networks.values():
            network.cost.latency_ms = None
    return replace(record, sweep=replace(record.sweep, latency=LOUD))


def shown(parts) -> str:
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as captured:
        console.print(*parts, sep="\n")
    return captured.get()


def test_the_table_of_costs_says_why_there_is_no_latency():
    best = invented.sweep().results[0]
    assert "–" not in shown(costs(best, None))
    (best, *_) = without_latency(invented.sweep()).results
    text = shown(costs(best, LOUD))
    assert "latency –: 1.7 of 2 cores were busy with something else" in text
    assert [line.split()[-2] for line in text.splitlines()[1:3]] == ["–", "–"]
    drawn = shown(costs(best, replace(LOUD, ms={"another": 1.0})))
    assert "only networks that are known before the first job begins" in drawn


def test_the_page_leaves_it_out(tmp_path):
    whole, lacking = Page(tmp_path, invented.sweep()), Page(tmp_path, without_latency(invented.sweep()))
    assert len(whole.charts["cost"]) == 3 and len(lacking.charts["cost"]) == 2
    assert "before the first job" in whole.text
    assert "Latency is left out" in lacking.text and "before the first job" not in lacking.text


def test_what_is_known_of_some_networks_alone_is_shown_of_those(tmp_path):
    widths = invented.sweep({"student.model.hidden": ([8], [16])})
    widths.results[0].student.cost = Cost(9, 9.0, 9)
    page = Page(tmp_path, widths)
    heads, *rows = page.table("Leaderboard")
    column = heads.index("latency ms")
    assert sorted(row[column] for row in rows) == ["0.15", "–"]
    assert len(page.charts["cost"]) == 2
    rows = leaderboard(together([widths]))
    assert {"latency_ms" in row.cost for row in rows} == {True, False}
    assert {row.as_dict()["cost"]["latency_ms"] for row in rows} == {0.15, None}


def test_the_model_card_has_it_only_where_it_was_measured():
    record = invented.sweep()
    result = record.results[0]
    chosen = Chosen(replace(record.sweep, latency=Latency({}, 0.0, 2, "A CPU, 2 cores")), result, "student")
    assert "| latency in PyTorch, one thread of A CPU, 2 cores, ms | 0.15 | 0.22 |" in "\n".join(
        _cost(chosen)
    )
    record = without_latency(record)
    assert "latency" not in "\n".join(_cost(Chosen(record.sweep, record.results[0], "student")))
