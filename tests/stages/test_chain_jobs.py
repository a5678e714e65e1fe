"""Chains through the command: what is trained and shared, and what is shown of each link."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import TINY, Command, client, runs, sweep_folder
from safetensors.torch import load_file

CHAIN = ("method=ban", "alpha=0", "baseline=false", *TINY)


def agreements(folder: Path) -> tuple[dict[str, float], Callable[..., float]]:
    """What a job says of its networks, by role, and what comes of their stored logits: a network's with the
    averaged probabilities of others."""
    (file,) = folder.glob("outputs/*/*/result.json")
    networks = json.loads(file.read_text())["networks"]
    stored = {}
    for entry in folder.glob("kdsweep-store/*/logits.safetensors"):
        made = json.loads((entry.parent / "entry.json").read_text())["made_from"]
        if made["split"] == "test":
            stored[made["logits"]] = load_file(entry)["logits"].double()
    logits = {role: stored[each["key"]] for role, each in networks.items() if role != "ensemble"}

    def with_others(role: str, *others: str) -> float:
        taught = sum(logits[other].softmax(1) for other in others)
        return logits[role].argmax(1).eq(taught.argmax(1)).double().mean().item()

    said = {role: each["test"]["agreement"] for role, each in networks.items()}
    return {role: share for role, share in said.items() if share is not None}, with_others


def trained(tmp_path) -> int:
    return len(list((tmp_path / "kdsweep-store").glob("*/stage.json")))


@pytest.mark.parametrize(
    "hardware",
    [
        ["hardware=auto"],
        pytest.param(["hardware=cpu_parallel", "hardware.jobs=2"], marks=pytest.mark.long),
    ],
    ids="".join,
)
def test_a_sweep_of_chains_trains_no_more_than_the_longest(kdsweep: Command, tmp_path, hardware):
    kdsweep("-m", "chain_length=1,2,3,4", *hardware, *CHAIN)
    assert trained(tmp_path) == 5, "a teacher and four generations"
    folder = sweep_folder(tmp_path)
    with (folder / "sweep.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    by_length = {int(row["chain_length"]): row for row in rows}
    for length in (2, 3, 4):
        assert by_length[length][f"generation{length - 1}_accuracy"] == by_length[length - 1]["test_accuracy"]
    assert {file.name for file in folder.glob("*.png")} >= {"chain.png", "sweep.png"}
    table = (folder / "sweep.txt").read_text()
    assert table.count("\nensemble") == 4 + 1, "of each chain, and among the costs"
    parent, *children = runs(tmp_path)
    assert len(children) == 4 and all(
        child.data.tags["mlflow.parentRunId"] == parent.info.run_id for child in children
    )


@pytest.mark.long
def test_a_job_tells_every_link(kdsweep: Command, tmp_path):
    shown = kdsweep("chain_length=3", *CHAIN, "baseline=true").stdout
    assert "generation 2" in shown and "ensemble" in shown
    said, with_others = agreements(tmp_path)
    assert said.keys() == {"scratch", "generation1", "generation2", "student", "ensemble"}
    assert said["generation1"] == with_others("generation1", "teacher")
    assert said["student"] == with_others("student", "generation2")
    assert said["scratch"] == with_others("scratch", "generation2"), "to be compared with the student's"
    assert said["student"] != with_others("student", "teacher")
    (run,) = runs(tmp_path)
    metrics = run.data.metrics
    for name in (
        *("generation1/val/accuracy", "generation1/best/val/accuracy", "ensemble/best/val/accuracy"),
        *("ensemble/test/accuracy", "teacher/cost/flops", "test/roc_auc", "chain/best/val/accuracy"),
    ):
        assert name in metrics
    history = client(tmp_path).get_metric_history(run.info.run_id, "chain/test/accuracy")
    roles = ["teacher/", "generation1/", "generation2/", ""]
    assert [(point.step, point.value) for point in history] == [
        (step, metrics[f"{role}test/accuracy"]) for step, role in enumerate(roles)
    ]
    assert {"chain.png", "curves.png"} <= {
        each.path for each in client(tmp_path).list_artifacts(run.info.run_id)
    }


@pytest.mark.long
def test_members_of_an_ensemble_are_choosable(kdsweep: Command, tmp_path):
    kdsweep("chain_length=2", "chain.ensemble=[generations]", *CHAIN)
    (file,) = tmp_path.glob("outputs/*/*/result.json")
    networks = json.loads(file.read_text())["networks"]
    assert networks["ensemble"]["members"] == ["generation1", "student"]
    costs = [networks[role]["cost"]["parameters"] for role in ("generation1", "student", "ensemble")]
    assert costs[2] == costs[0] + costs[1]


@pytest.mark.long
def test_densely_guided_assistants_train(kdsweep: Command, tmp_path):
    one = "{name: wide, model: {_target_: kdsweep.networks.zoo.mlp.MLP, hidden: [64]}, training: {epochs: 1}}"
    two = "{name: narrow, model: {_target_: kdsweep.networks.zoo.mlp.MLP, hidden: [32]}}"
    shown = kdsweep("method=dgkd", "chain_length=3", f"student.assistants=[{one},{two}]", *TINY).stdout
    assert "assistant 1" in shown and "assistant 2" in shown
    stages = [json.loads(path.read_text()) for path in tmp_path.glob("kdsweep-store/*/stage.json")]
    assert sorted(len(stage["stage"]["parents"]) for stage in stages) == [0, 0, 1, 2, 3]
    said, with_others = agreements(tmp_path)
    assert said["assistant2"] == with_others("assistant2", "teacher", "assistant1")
    for role in ("student", "scratch"):
        assert said[role] == with_others(role, "teacher", "assistant1", "assistant2")


@pytest.mark.long
def test_weights_of_a_stage_and_of_a_run_begin_another_training(kdsweep: Command, tmp_path):
    small = ("training.epochs=1", "dataset.train_limit=100", "dataset.test_limit=50")
    kdsweep("method=scratch", "student=wrn", "student.model.depth=10", *small)
    (run,) = runs(tmp_path)
    taught = ("teacher=wrn", "teacher.model.depth=10", "teacher.training.epochs=0", *small)
    for weights in (
        f"stage:{run.data.tags['kdsweep.stage']}",
        f"runs:/{run.info.run_id}/weights.safetensors",
    ):
        kdsweep(f"teacher.weights={weights}", *taught)
        assert runs(tmp_path)[-1].data.metrics["teacher/test/accuracy"] == run.data.metrics["test/accuracy"]
    assert trained(tmp_path) == 1 + 1 + 2, "the given weights are one teacher, wherever they come from"
    done = kdsweep("teacher.weights=runs:/nothing/x", *taught, status=1)
    assert done.stderr.startswith(
        "kdsweep: weights=runs:/nothing/x: tracking.uri=sqlite:///mlflow.db cannot deliver it"
    )
    assert len(done.stderr.splitlines()) == 1
