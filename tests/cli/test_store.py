"""`kdsweep-store` on the store of real sweeps."""

import json
import os
import random
import re
import resource
import subprocess
import time
from pathlib import Path

import pytest
from filelock import FileLock
from helpers import COMMAND, TINY, Command, environment
from mlflow import MlflowClient

from kdsweep.errors import KdsweepError
from kdsweep.store.origin import ENTRY, Origin
from kdsweep.store.show import entries_as_json, show_entries
from kdsweep.store.store import ANSWERS, Store
from kdsweep.store.usage import Use, kept, read_entries, read_uses


@pytest.fixture
def store_tool(tmp_path: Path) -> Command:
    def run(*arguments: str, status: int = 0, answer: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [f"{COMMAND}-store", *arguments],
            cwd=tmp_path, env=environment(), capture_output=True, text=True, input=answer,
        )  # fmt: skip
        assert done.returncode == status, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def listed(store_tool: Command) -> dict[str, dict]:
    return {entry["key"]: entry for entry in json.loads(store_tool("list", "--json").stdout)["entries"]}


def runs(folder: Path) -> tuple[MlflowClient, list]:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("kdsweep")
    return client, client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])


@pytest.mark.long
def test_list_show_verify_and_remove(kdsweep: Command, store_tool: Command, tmp_path):
    kdsweep("-m", "temperature=1,4", *TINY)
    kdsweep("temperature=8", "seed=1", *TINY)
    entries = listed(store_tool)
    kinds = [entry["kind"] for entry in entries.values()]
    assert (kinds.count("stage"), kinds.count("cost"), kinds.count("evaluation")) == (7, 2, 7)
    assert all(entry["kept"] for entry in entries.values())
    shown = store_tool("list").stdout
    assert len(re.findall(r"^[0-9a-f]{8} +stage", shown, re.M)) == 7 and "logits" not in shown
    assert re.search(r"stage +teacher +mnist_cnn .* 2 jobs", shown) and "unused: 0" in shown
    assert len(re.findall("logits", store_tool("list", "--all").stdout)) == kinds.count("logits")

    student = next(e for e in entries.values() if e["role"] == "student" and "T=4" in str(e["used_by"]))
    told = store_tool("show", student["key"][:10]).stdout
    assert re.search(r"best +epoch \d of 2, val", told) and "stage mnist_cnn" in told and "T=4" in told
    assert '"temperature": 4' in told
    assert "no such entry" in store_tool("show", "zzz", status=1).stderr

    # a run that is deleted leaves what it alone needed to --unused
    client, found = runs(tmp_path)
    client.delete_run(found[-1].info.run_id)
    client.delete_run(next(run.info.run_id for run in found if run.info.run_name == "T=4"))
    assert "unused" in store_tool("list").stdout
    before = read_entries(Store(tmp_path / "kdsweep-store"))
    assert "nobody answered" in store_tool("remove", "--unused", status=1).stderr
    assert "nothing was removed" in store_tool("remove", "--unused", answer="n\n").stdout
    assert read_entries(Store(tmp_path / "kdsweep-store")).keys() == before.keys()
    removed = store_tool("remove", "--unused", answer="y\n").stdout
    assert re.search(r"freed [\d.]+ [kM]B", removed)
    left = listed(store_tool)
    assert sorted(e["role"] for e in left.values() if e["role"]) == ["scratch", "student", "teacher"]
    assert [e["kind"] for e in left.values()].count("evaluation") == 3
    assert student["key"] not in left and all(entry["kept"] for entry in left.values())
    assert store_tool("remove", "--unused").stdout == "nothing to remove\n"
    again = kdsweep("-m", "temperature=1", *TINY).stdout
    assert "reused" in again and "trained in" not in again

    # by name, though it is in use: with what was computed of it
    teacher = next(entry for entry in left.values() if entry["role"] == "teacher")
    told = store_tool("remove", teacher["key"][:8], "--yes").stdout
    assert "stage teacher mnist_cnn" in told and "needed by run" in told
    assert not {"teacher"} & {entry["role"] for entry in listed(store_tool).values()}
    assert "entries are whole" in store_tool("verify").stdout
    student = next(entry for entry in left.values() if entry["role"] == "student")
    (weights,) = (tmp_path / "kdsweep-store" / student["key"]).glob("weights*")
    weights.write_bytes(b"changed")
    told = store_tool("verify", status=1).stdout
    assert f"damaged: {student['key']} (stage small_mlp): checksum of weights.safetensors" in told
    assert "1 of" in told and "makes it anew" in told


@pytest.mark.long
def test_results_keep_what_they_need_where_mlflow_does_not_know_them(kdsweep, store_tool, tmp_path):
    kdsweep("method=scratch", *TINY)
    kdsweep("method=scratch", "seed=1", "tracking.uri=sqlite:///other.db", *TINY)
    assert all(entry["kept"] for entry in listed(store_tool).values())
    kept = {entry["key"] for entry in listed(store_tool).values() if entry["kind"] == "stage"}
    without = json.loads(store_tool("list", "--json", "--results").stdout)["entries"]
    unused = [entry for entry in without if entry["kind"] == "stage" and not entry["kept"]]
    assert len(kept) == 2 and len(unused) == 1


@pytest.mark.long
def test_without_its_runs_nothing_is_taken_for_unused(kdsweep, store_tool, tmp_path):
    kdsweep("method=scratch", *TINY)
    (tmp_path / "mlflow.db").rename(tmp_path / "elsewhere.db")
    assert "no such database" in store_tool("remove", "--unused", "--yes", status=1).stderr
    assert not (tmp_path / "mlflow.db").exists()
    assert "cannot tell which runs use which entries" in store_tool("list").stderr
    uri = "--tracking-uri=sqlite:///elsewhere.db"
    assert store_tool("remove", "--unused", uri, "--yes").stdout == "nothing to remove\n"


def test_what_is_in_work_stays_and_what_is_left_over_goes(store_tool, tmp_path):
    store = Store(tmp_path / "kdsweep-store")
    keys = ["a" * 32, "b" * 32]
    for key in keys:
        origin = Origin("stage", {}, network="mlp")
        store.obtain(key, lambda folder: (folder / "x").write_text("x"), origin=origin)
    mine = [".venv-3.11", ".removed-photos", f".{'c' * 32}-my_notes_of_it"]
    for name in (f".{'c' * 32}-1s_left1", f".{'d' * 32}-1s_made1", "removed/half", *mine):
        (store.root / name).mkdir(parents=True)
    for key in "ef":
        store.unfinished(key * 32).mkdir()
        (store.unfinished(key * 32) / "checkpoint.safetensors").write_bytes(b"." * 100)
    old = time.time() - 5 * 24 * 3600
    os.utime(store.unfinished("e" * 32) / "checkpoint.safetensors", (old, old))
    first, fourth = (FileLock(store.root / "locks" / f"{key}.lock") for key in (keys[0], "d" * 32))
    with first, fourth:
        told = store_tool("remove", "aa", "bb", "--unfinished", "3", "--yes").stdout
    assert "aaaaaaaa stays: a job is at work on it" in told
    assert read_entries(store).keys() == {keys[0]}
    assert not list((store.root / "removed").iterdir())
    there = {path.name for path in store.root.glob(".*")}
    assert there == {f".{'d' * 32}-1s_made1", *mine}, "what no name of kdsweep's has is somebody's"
    assert [path.name for path in (store.root / "unfinished").iterdir()] == ["f" * 32]


def _answers(store: Store) -> None:
    """A teacher's, to three epochs, and another's, to one; each has 10 kB."""
    for key, teacher in (("a" * 32, "big"), ("b" * 32, "small")):
        store.obtain(key, lambda folder: (folder / "x").touch(), origin=Origin("stage", {}, [], teacher))
    for key, of, network in (("c", "a", "big"), ("d", "a", "big"), ("e", "a", "big"), ("f", "b", "small")):
        origin = Origin("answers", {"answers": of * 32, "epoch": 1}, [of * 32], network)
        store.obtain(key * 32, lambda folder: (folder / ANSWERS).write_bytes(bytes(10_000)), origin=origin)


def test_answers_are_folded_into_their_teachers(store_tool, tmp_path):
    store = Store(tmp_path / "kdsweep-store")
    _answers(store)
    shown = store_tool("list").stdout
    assert len(re.findall(r"^[0-9a-f]{8} ", shown, re.M)) == 2
    assert re.search(r"aaaaaaaa +stage +big +3[\d.]+ kB", shown)
    assert re.search(r"6 entries, 4[\d.]+ kB in .*; answers to augmented images: 4, 4[\d.]+ kB$", shown, re.M)
    everything = store_tool("list", "--all").stdout
    assert len(re.findall(r"^[0-9a-f]{8} +answers +(big|small) ", everything, re.M)) == 4
    assert [entry["kind"] for entry in listed(store_tool).values()].count("answers") == 4


def test_answers_are_removed_alone(store_tool, tmp_path):
    store = Store(tmp_path / "kdsweep-store")
    _answers(store)
    asked = store_tool("remove", "--answers", answer="n\n").stdout
    assert re.search(r"^  aaaaaaaa  answers big, entries: 3, 3[\d.]+ kB$", asked, re.M)
    assert re.search(r"^  bbbbbbbb  answers small, entries: 1, 1[\d.]+ kB$", asked, re.M)
    assert re.search(r"remove these 4, 4[\d.]+ kB\? \[y/N\] nothing was removed$", asked, re.M)
    assert len(read_entries(store)) == 6
    with FileLock(store.root / "locks" / f"{'d' * 32}.lock"):
        told = store_tool("remove", "--answers", "--yes").stdout
    assert "dddddddd stays: a job is at work on it" in told and re.search(r"freed 3[\d.]+ kB", told)
    assert read_entries(store).keys() == {key * 32 for key in "abd"}
    store_tool("remove", "aa", "--yes")
    assert read_entries(store).keys() == {"b" * 32}, "with what was left of its answers"
    assert store_tool("remove", "--answers").stdout == "nothing to remove\n"


def test_answers_are_needed_as_their_teacher_is(tmp_path):
    store = Store(tmp_path / "kdsweep-store")
    _answers(store)
    entries = read_entries(store)
    assert kept(entries, [Use("a job", ("a" * 32,))]) == {key * 32 for key in "acde"}
    assert kept(entries, []) == set()


def _described(store: Store) -> list[Path]:
    """An entry of each kind, and their descriptions; two of the entries hang together."""
    stage = {"model": {"_target_": "a.b"}, "source": None, "parents": []}
    kinds = {
        "a": Origin("stage", stage, [], "mlp", "student"),
        "b": Origin("logits", {"logits": "a" * 32, "split": "val"}, ["a" * 32], "mlp"),
        "c": Origin("evaluation", {"evaluation": ["a" * 32], "teachers": []}, ["a" * 32], "mlp"),
        "d": Origin("cost", {"cost": {"_target_": "a.b"}, "source": None}),
        "e": Origin("latency", {"latency": [{"cost": {"_target_": "a.b"}, "source": None}]}),
    }
    for name, origin in kinds.items():
        store.obtain(name * 32, lambda folder: (folder / "x").touch(), origin=origin)
    return [store.root / (name * 32) / ENTRY for name in kinds]


def test_no_flipped_bit_of_a_description_stops_who_reads_it(tmp_path, capsys):
    store, draw = Store(tmp_path / "store"), random.Random(3)
    descriptions = _described(store)
    uses = [Use("a job", ("a" * 32,))]
    assert kept(read_entries(store), uses) == {name * 32 for name in "abcde"}
    for number in range(400):
        file = descriptions[number % len(descriptions)]
        whole = file.read_bytes()
        flipped = bytearray(whole)
        flipped[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        file.write_bytes(flipped)
        entries = read_entries(store)
        assert len(entries) == 5 and "a" * 32 in kept(entries, uses)
        assert "checksum of entry.json" in store.damage(file.parent.name)
        show_entries(store, uses, everything=True)
        assert len(json.loads(entries_as_json(store, uses))["entries"]) == 5
        file.write_bytes(whole)


def test_a_damaged_description_is_told_and_removed(store_tool, tmp_path):
    store = Store(tmp_path / "kdsweep-store")
    for file in _described(store)[:2]:
        file.write_text("[]")
    assert "unused" not in store_tool("list").stdout, "without MLflow nobody knows what uses an entry"
    assert (
        "aaaaaaaa: is damaged (checksum of entry.json); the next job"
        in store_tool("show", "aa", status=1).stderr
    )
    assert "2 of 5 entries are damaged" in store_tool("verify", status=1).stdout
    store_tool("remove", "aa", "bb", "--yes")
    assert read_entries(store).keys() == {"d" * 32, "e" * 32}, "with the evaluation, which was of a stage"


@pytest.mark.parametrize(
    "content", ["", "null", "[1]", "{}", '{"networks": 3', '{"networks": {"a": 1}, "entries": []}']
)
def test_what_a_damaged_result_needs_is_not_known(tmp_path, content):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(
        KdsweepError, match=r"result.json: is damaged, so it does not show what its job needs; rem"
    ):
        read_uses([], [tmp_path])


@pytest.mark.long
def test_a_damaged_result_removes_nothing(store_tool, tmp_path):
    _described(Store(tmp_path / "kdsweep-store"))
    MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").create_experiment("kdsweep")
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "result.json").write_text("null")
    assert "outputs/result.json: is damaged" in store_tool("remove", "--unused", "--yes", status=1).stderr
    assert "5 entries are whole" in store_tool("verify").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["list", "--store", "none"], "none: no such folder; give --store"), (["remove"], "remove what"),
     (["list", "--store", "."], ".: is no store of kdsweep; give --store"),
     (["remove", "--unused", "--yes", "--store", "."], ".: is no store of kdsweep; give --store"),
     (["nonsense"], "invalid choice"),
     (["remove", "--unused", "--tracking-uri", "bogus"], "tracking.uri=bogus: MLflow does not"),
     *((["remove", f"--unfinished={days}"], f"--unfinished: {days}: must be a number of days, 0 to 36500")
       for days in ("nan", "1000000", "-1", "x"))],
)  # fmt: skip
def test_mistakes_are_told(store_tool, tmp_path, arguments, message):
    Store(tmp_path / "kdsweep-store").made()
    there = set(tmp_path.rglob("*"))
    told = store_tool(*arguments, status=1).stderr
    assert message in told and "Traceback" not in told
    assert set(tmp_path.rglob("*")) == there, "nothing is made"


def test_a_folder_with_other_files_is_no_store(kdsweep, store_tool, tmp_path):
    """Else files of the user's would be among those that kdsweep removes."""
    (tmp_path / ".venv-3.11").mkdir()
    told = kdsweep("store=.", *TINY, status=1).stderr
    assert "store=.: holds other files and is not a store of kdsweep; name an own folder for it" in told
    assert (tmp_path / ".venv-3.11").is_dir() and not (tmp_path / "locks").exists()


def test_the_store_is_listed_though_the_tracking_uri_is_none(store_tool, tmp_path):
    Store(tmp_path / "kdsweep-store").made()
    told = store_tool("list", "--tracking-uri", "bogus").stderr
    assert "cannot tell which runs use which entries: tracking.uri=bogus: MLflow does not" in told
    assert "Traceback" not in told


@pytest.mark.long
def test_a_job_fails_before_it_trains_where_the_store_has_outgrown_its_budget(kdsweep, tmp_path):
    kdsweep("method=scratch", "store_budget=1", *TINY)
    told = kdsweep("method=scratch", "seed=1", "store_budget=0.00001", *TINY, status=1).stderr
    assert re.search(r"store_budget=1e-05: the store .* has [\d.e-]+ GB; make room .*remove --unused", told)
    assert len(list(tmp_path.glob("kdsweep-store/*/stage.json"))) == 1
    kdsweep("method=scratch", "store_budget=0.00001", *TINY)  # which trains nothing


@pytest.mark.long
def test_a_full_disk_fails_the_job_alone_and_leaves_the_store_valid(kdsweep, store_tool, tmp_path):
    """A limit on the size of files stands for the disk: the checkpoint of the second student does not fit."""
    sweep = ("-m", "baseline=false", *TINY, "student.model.hidden=[16],[1500,784]")
    done = subprocess.run(
        [COMMAND, *sweep],
        cwd=tmp_path, env=environment(), capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, 10_000_000)),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "File too large" in line]
    assert re.search(r"failed: store=.*/kdsweep-store: File too large, [\d.,]+ [GM]B are free there; ", line)
    assert "Traceback" not in done.stderr
    assert "[1/2]" in done.stdout and "trained in" in done.stdout
    store = tmp_path / "kdsweep-store"
    assert not list(store.glob(".*")) and not list(store.glob("unfinished/*/*.new"))
    assert "entries are whole" in store_tool("verify").stdout
    status = {run.data.params.get("student.model.hidden"): run.info.status for run in runs(tmp_path)[1]}
    assert status["[16]"] == "FINISHED" and status["[1500, 784]"] == "FAILED"

    again = kdsweep(*sweep).stdout  # with room
    assert re.search(r"\[1/2\].* reused", again) and re.search(r"\[2/2\].* trained in", again)
