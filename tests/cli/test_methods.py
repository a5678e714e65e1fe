"""Methods from the command line: swept together, refused where they do not fit, of a user's own."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import torch
from helpers import COMMAND, TINY, Command, environment, runs

from kdsweep.export.folder import load
from kdsweep.networks.weights import WEIGHTS, load_weights
from kdsweep.store.store import Store

SHORT = ("training.epochs=2", "dataset.train_limit=200", "dataset.test_limit=100")
ZOO = ("teacher=resnet", "teacher.model.depth=8", "student=resnet", "student.model.depth=8", *SHORT)


def test_a_sweep_over_methods_is_one_table(kdsweep: Command, tmp_path):
    shown = kdsweep("-m", "method=kd,dkd,crd,fitnet", "hydra.sweep.dir=out", *ZOO).stdout
    for name in ("kd", "dkd", "crd", "fitnet"):
        assert f"method={name}" in shown
    results = [json.loads(file.read_text()) for file in tmp_path.glob("out/*/result.json")]
    assert len({result["networks"]["teacher"]["key"] for result in results}) == 1
    _, *children = runs(tmp_path)
    metrics = {key for run in children for key in run.data.metrics}
    assert {f"train/loss_{name}" for name in ("labels", "kd", "dkd", "crd", "fitnet")} <= metrics


@pytest.mark.long
def test_a_student_that_ends_in_its_teachers_head_is_counted_exported_and_served(kdsweep: Command, tmp_path):
    kdsweep("-m", "method=simkd", "method.network.factor=2,4", "hydra.sweep.dir=out", *ZOO)
    networks = [
        json.loads(file.read_text())["networks"] for file in sorted(tmp_path.glob("out/*/result.json"))
    ]
    for factor, found in zip((2, 4), networks, strict=True):
        inner = 64 // factor
        projector = 2 * 64 * inner + 9 * inner**2 + 2 * (2 * inner + 64)
        baseline = found["scratch"]["cost"]["parameters"]
        assert found["student"]["cost"]["parameters"] == baseline + projector
    assert networks[0]["scratch"]["key"] == networks[1]["scratch"]["key"]
    export = Path(COMMAND).with_name("kdsweep-export")
    command = [
        export,
        "--to",
        "torchscript",
        "torch-export",
        "safetensors",
        "--out",
        "ex",
        "--job",
        "1",
        "out",
    ]
    subprocess.run(command, cwd=tmp_path, env=environment(), check=True, capture_output=True)
    network = load(tmp_path / "ex").eval()
    images = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        assert network(images).shape == (3, 10)
        assert torch.equal(torch.jit.load(tmp_path / "ex" / "model.torchscript.pt")(images), network(images))
    store = Store(tmp_path / "kdsweep-store")
    weights = [
        load_weights(store.find(networks[1][role]["key"]) / WEIGHTS) for role in ("student", "teacher")
    ]
    assert torch.equal(weights[0]["head.weight"], weights[1]["head.weight"])


@pytest.mark.long
def test_a_methods_own_number_is_swept_and_written_by_its_sign(kdsweep: Command, tmp_path):
    shown = kdsweep("-m", "method=dkd", "method.terms.dkd.beta=2,8", "hydra.sweep.dir=out", *TINY).stdout
    assert "β=2" in shown and "β=8" in shown
    assert "β" in (tmp_path / "out" / "report.html").read_text()
    _, *children = runs(tmp_path)
    assert sorted(float(run.data.params["method.terms.dkd.beta"]) for run in children) == [2, 8]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-m", "method=dkd", "alpha=0.1,0.5"), "alpha: method=dkd does not take it"),
        (("method=scratch", "temperature=2"), "temperature: method=scratch does not take it"),
        (("method=simkd",), "method.network: the student has no tap map"),
        (
            ("method=fitnet",),
            "method.terms.fitnet: the student small_mlp has no tap stage2; it has embedding",
        ),
        (("method=kd", "+method.terms.kd.tau=3"), "unexpected keyword argument 'tau'"),
        (("method=dkd", "+method.terms.dkd.taps=embedding"), "method.terms.dkd: "),
        (("method=kd", "method.terms.kd.weight=-1"), "method.terms.kd.weight=-1: must be 0 or more"),
        (
            ("method=kd", "method.terms.kd.weight=beta"),
            "must be a number, or one of temperature, alpha, 1 - alpha",
        ),
        (("method=kd", "method.terms.kd._target_=kd"), "method.terms.kd._target_=kd"),
        (
            ("method=kd", "method.terms.kd._target_=no.where.kd"),
            "_target_=no.where.kd: ModuleNotFoundError: No module named 'no'",
        ),
        (
            ("method=kd", "method.terms.kd._target_=kdsweep.methods.logits.kd.kdd"),
            "method.terms.kd._target_=kdsweep.methods.logits.kd.kdd: AttributeError: ",
        ),
        (("method=scratch", "method.terms.labels.weight=0"), "no term has weight"),
        (
            ("method=scratch", "method.terms.labels.smoothing=1.5"),
            "smoothing=1.5: must be 0 or more, and below 1",
        ),
        (("method=crd", "+method.terms.crd.warmup=-1"), "method.terms.crd.warmup=-1"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_trained(
    kdsweep: Command, tmp_path, arguments, message
):
    stderr = kdsweep(*arguments, *TINY, status=1).stderr
    assert message in stderr
    assert "Traceback" not in stderr and "unexpected;" not in stderr
    assert not list(tmp_path.glob("kdsweep-store/*/weights.safetensors"))


OWN = """
def squared(student, teacher, *, factor=1.0):
    return factor * (student.softmax(1) - teacher.softmax(1)).square().mean()
"""
YAML = """
# kdsweep --config-dir conf method=mine
name: mine
terms:
  squared:
    _target_: my_methods.squared
    weight: 1.0
options: {}
"""


@pytest.mark.long
def test_a_method_of_ones_own_whose_code_is_in_the_key(kdsweep: Command, tmp_path):
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "mine.yaml").write_text(YAML)
    code = tmp_path / "my_methods.py"
    code.write_text(OWN)
    run = ("--config-dir", "conf", "method=mine", *TINY)
    assert re.search("student +trained", kdsweep(*run).stdout)
    assert re.search("student +reused", kdsweep(*run, "+method.terms.squared.factor=1.0").stdout), (
        "its default"
    )
    code.write_text(OWN.replace("1.0", "2.0 / 2"))
    shown = kdsweep(*run).stdout
    assert re.search("student +trained", shown) and re.search("teacher +reused", shown)
