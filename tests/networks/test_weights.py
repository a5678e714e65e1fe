"""Files of weights as people have them: where they lie, what is in them, how they fit a network."""

import argparse
import json
import logging
import pickle
import struct
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from kdsweep.config import Tracking
from kdsweep.errors import ConfigError, KdsweepError
from kdsweep.networks import weights
from kdsweep.networks.build import build, build_initial, check
from kdsweep.networks.fitting import begin_with
from kdsweep.networks.weights import load_weights
from kdsweep.stages.begin import locate
from kdsweep.store.origin import Origin
from kdsweep.store.store import Store
from kdsweep.system import progress
from kdsweep.tracking import download

LITE = {"_target_": "kdsweep.networks.library.timm", "architecture": "test_resnet", "pretrained": False}
State = dict[str, Any]


def no_download(uri: str) -> Path:
    raise AssertionError(uri)


def network(classes: int = 3) -> nn.Sequential:
    """Two layers, and a batch normalization between them, whose count of batches is an integer."""
    torch.manual_seed(classes)
    return nn.Sequential(
        OrderedDict(flat=nn.Flatten(), body=nn.Linear(4, 5), norm=nn.BatchNorm1d(5), fc=nn.Linear(5, classes))
    )


def other() -> State:
    return {name: tensor + 1 for name, tensor in network().state_dict().items()}


def under(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


OPTIONS = argparse.Namespace(lr=0.1, model="resnet", milestones=[1, 2])
MOMENTS = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}

# What is saved of a state, and the line that says what was taken of it.
SAVED: dict[str, tuple[Callable[[State], Any], str | None]] = {
    "plain": (lambda state: state, None),
    "lightning": (
        lambda state: {
            "epoch": 3,
            "pytorch-lightning_version": "2.5",
            "state_dict": {**under("model.", state), "criterion.weight": torch.ones(3)},
            "optimizer_states": [MOMENTS],
            "hyper_parameters": {"lr": 0.1},
        },
        "its state_dict is used; model. is removed from the names of its tensors; not used: criterion",
    ),
    "compiled": (lambda state: under("_orig_mod.", state), "_orig_mod. is removed"),
    "compiled in parallel": (
        lambda state: {"model": under("module._orig_mod.", state)},
        "its model is used; module._orig_mod. is removed",
    ),
    "compiled in part": (
        lambda state: {name.replace("body.", "body._orig_mod."): t for name, t in state.items()},
        "_orig_mod. is removed",
    ),
    "parallel": (lambda state: under("module.", state), "module. is removed"),
    "timm": (
        lambda state: {
            "epoch": 7, "arch": "resnet", "state_dict": other(), "optimizer": MOMENTS, "version": 2,
            "args": OPTIONS, "metric": np.float64(76.5), "state_dict_ema": state,
        },
        "its state_dict_ema is used",
    ),
    "torchvision": (
        lambda state: {
            "model": other(), "optimizer": MOMENTS, "args": OPTIONS,
            "model_ema": {**under("module.", state), "n_averaged": torch.tensor(4)},
        },
        "its model_ema is used; module. is removed from the names of its tensors; not used: n_averaged",
    ),
    "ema": (lambda state: {"ema": state, "model": other()}, "its ema is used"),
    "mdistiller's student": (lambda state: {"model": state}, "its model is used"),
    "mdistiller": (
        lambda state: {
            "epoch": 240, "best_acc": 0.7, "optimizer": MOMENTS,
            "model": {
                **under("module.student.", state), **under("module.teacher.", other()),
                "module.conv_reg.weight": torch.ones(2),
            },
        },
        "its model is used; module.student. is removed from the names of its tensors; not used: module",
    ),
    "RepDistiller": (
        lambda state: {"epoch": 240, "model": state, "best_acc": torch.tensor(73.2), "acc": np.float32(1)},
        "its model is used",
    ),
    "generators": (
        lambda state: {
            "model": state, "rng": np.random.RandomState(0).get_state(), "torch": torch.__version__,
            "folder": Path("runs"),
        },
        "its model is used",
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def said_anew():
    progress.once.cache_clear()


@pytest.mark.parametrize("saved", SAVED)
def test_weights_are_found_wherever_a_checkpoint_has_them(tmp_path, caplog, saved):
    save, line = SAVED[saved]
    state, ours = network(7).state_dict(), network(7)
    with torch.no_grad():
        state = {name: tensor + 2 for name, tensor in state.items()}
    torch.save(save(state), tmp_path / "model.pth")
    with caplog.at_level(logging.WARNING):
        begin_with(ours, load_weights(tmp_path / "model.pth"), tmp_path / "model.pth", trained=False)
    assert all(torch.equal(tensor, state[name]) for name, tensor in ours.state_dict().items())
    if line is None:
        assert not caplog.messages
    else:
        (told,) = caplog.messages
        assert told.startswith(f"weights={tmp_path / 'model.pth'}: {line}")


def test_a_whole_checkpoint_of_a_library_begins_a_backbone(tmp_path):
    """Its head for other classes is left out, under a prefix too."""
    theirs = timm.create_model("test_resnet", num_classes=1000)
    state = {"state_dict": under("model.", theirs.state_dict()), "args": OPTIONS}
    torch.save(state, tmp_path / "theirs.ckpt")
    ours = build_initial(LITE, 3, (3, 32, 32), tmp_path / "theirs.ckpt")
    assert torch.equal(ours.network.layer4[0].conv1.weight, theirs.layer4[0].conv1.weight)
    with pytest.raises(
        ConfigError, match=r"its head is for 1,000 classes, the data has 2 \(fc.weight\)"
    ) as told:
        build_initial(LITE, 2, (3, 32, 32), tmp_path / "theirs.ckpt", trained=False)
    assert "train a new head by training.epochs=1 or more" in str(told.value)


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize(
    "more",
    [
        {"deeper.weight": torch.ones(3)},
        {"body.scale": torch.ones(1), "norm2.weight": torch.ones(3)},
        {"head_dist.weight": torch.ones(7, 5)},
    ],
)
def test_tensors_that_are_left_over_are_an_error(tmp_path, more, trained):
    with pytest.raises(ConfigError, match=f"{len(more)} of .. tensors are left over .{next(iter(more))}"):
        begin_with(network(), network().state_dict() | more, tmp_path / "more.pth", trained)
    wrapped = under("trunk.", network().state_dict()) | more  # no word for a wrapper of one network
    with pytest.raises(ConfigError, match=f"are left over .{next(iter(more))}"):
        begin_with(network(), wrapped, tmp_path / "more.pth", trained)


def test_two_networks_that_fit_are_not_chosen_between(tmp_path):
    parts = {"first": network().state_dict(), "second": other()}
    torch.save(parts, tmp_path / "parts.pth")
    with pytest.raises(ConfigError, match="several networks in it fit"):
        begin_with(network(), load_weights(tmp_path / "parts.pth"), tmp_path / "parts.pth")


def spoiled(tensor: torch.Tensor, value: float) -> torch.Tensor:
    tensor = tensor.clone()
    tensor.view(-1)[-1] = value
    return tensor


NO_WEIGHTS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str]] = {
    "nan": (lambda tensor: spoiled(tensor, float("nan")), "holds NaN or infinity"),
    "infinity": (lambda tensor: spoiled(tensor, float("-inf")), "holds NaN or infinity"),
    "huge": (lambda tensor: spoiled(tensor, -3.4e38), r"holds values up to 3e\+38, which are too large to"),
    "huge double": (lambda tensor: spoiled(tensor.double(), 1e300), r"holds values up to 1e\+300"),
    "nan of half": (lambda tensor: spoiled(tensor.half(), float("nan")), "holds NaN or infinity"),
    "meta": (lambda tensor: tensor.to("meta"), "is a meta tensor"),
    "sparse": (lambda tensor: tensor.to_sparse(), "is sparse"),
    "quantized": (
        lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
        "is quantized",
    ),
    "bool": (lambda tensor: tensor > 0, r"is torch.bool and must be torch.float32"),
    "integer": (lambda tensor: tensor.long(), r"is torch.int64 and must be torch.float32"),
    "complex": (lambda tensor: tensor.to(torch.complex64), r"is torch.complex64 and must be torch.float32"),
}


@pytest.mark.filterwarnings("ignore:.*quantized")
@pytest.mark.parametrize("kind", NO_WEIGHTS)
@pytest.mark.parametrize("name", ["body.weight", "fc.weight"])
def test_what_is_no_weight_is_refused_in_a_line(tmp_path, kind, name):
    spoil, message = NO_WEIGHTS[kind]
    state = network().state_dict()
    torch.save({"state_dict": state | {name: spoil(state[name])}}, tmp_path / "model.pth")
    with pytest.raises(ConfigError, match=f"model.pth: {name} {message}") as error:
        begin_with(network(), load_weights(tmp_path / "model.pth"), tmp_path / "model.pth")
    assert "\n" not in str(error.value)


def test_of_the_old_head_too(tmp_path):
    state = network(9).state_dict()
    with pytest.raises(ConfigError, match=r"fc.bias holds NaN"):
        begin_with(
            network(), state | {"fc.bias": spoiled(state["fc.bias"], float("nan"))}, tmp_path / "x.pth"
        )


def test_an_empty_tensor_and_a_count_that_is_none_are_refused(tmp_path):
    state = network().state_dict()
    for name, tensor in (("fc.weight", torch.zeros(0)), ("norm.num_batches_tracked", torch.tensor(0.5))):
        with pytest.raises(ConfigError, match=name):
            begin_with(network(), state | {name: tensor}, tmp_path / "x.pth")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_taken(tmp_path, dtype):
    state = {n: t.to(dtype) if t.is_floating_point() else t for n, t in network(9).state_dict().items()}
    ours = network()
    begin_with(ours, state, tmp_path / "half.pth")
    assert torch.equal(ours.body.weight, state["body.weight"].float())


def safetensors(header: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (safetensors({}), "holds no tensors by name"),
        (safetensors({"__metadata__": {"x": "a" * 90_000_000}}), "holds no tensors by name"),
        (struct.pack("<Q", 2**62) + b"{}", "cannot be read"),
        (safetensors({"w": {"dtype": "F9", "shape": [1], "data_offsets": [0, 1]}}, b"0"), "cannot be read"),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_odd_safetensors_are_told_in_a_line(tmp_path, content, message, suffix):
    (tmp_path / f"odd{suffix}").write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        load_weights(tmp_path / f"odd{suffix}")
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_file_is_safetensors_by_its_content(tmp_path):
    save_file(network().state_dict(), tmp_path / "model")
    assert load_weights(tmp_path / "model").keys() == network().state_dict().keys()


def test_a_type_that_is_not_read_is_named(tmp_path):
    torch.save({"state_dict": network().state_dict(), "loss": nn.MSELoss()}, tmp_path / "model.pth")
    with pytest.raises(ConfigError, match=r"holds torch.nn.modules.loss.MSELoss beside tensors, perhaps"):
        load_weights(tmp_path / "model.pth")


def test_weights_with_which_a_network_gives_no_numbers_are_told(tmp_path):
    """Each is a number, and the logits are none."""
    layers = {"_target_": "kdsweep.networks.zoo.mlp.MLP", "hidden": [8, 8, 8]}
    state = {
        name: torch.full_like(tensor, 1e17)
        for name, tensor in build(layers, 3, (1, 4, 4)).state_dict().items()
    }
    save_file(state, tmp_path / "large.safetensors")
    with pytest.raises(ConfigError, match=r"large.safetensors: the network gives NaN or infinity with them"):
        check(layers, 3, (1, 4, 4), tmp_path / "large.safetensors", trained=False)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            "3fa9c2d1",
            r"if it is a stage's key, write stage:KEY .* if an MLflow run's ID, runs:/3fa9c2d1/weights",
        ),
        ("b" * 32, r"if an MLflow run's ID, runs:/b{32}/weights.safetensors"),
        ("a" * 32, r"is not a file but a stage of the store; write weights=stage:a{32}"),
        ("runs:3fa9/x", r"must be runs:/ID/PATH for a file of an MLflow run"),
        ("models:/best/1", r"must be runs:/ID/PATH for a file of an MLflow run"),
        ("https://example.org/w.pth", "is not downloaded; download it and give the file"),
        ("folder", r"is a folder; give a file in it, such as folder/model.safetensors"),
        ("stage:aaaa", "has no such stage; a key has 32 digits"),
    ],
)
def test_what_is_no_file_is_told_by_what_it_looks_like(tmp_path, monkeypatch, written, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model.safetensors").touch()
    store = Store(tmp_path / "store")
    store.obtain("a" * 32, lambda folder: (folder / "x").touch(), origin=Origin("stage", {}))
    with pytest.raises(ConfigError, match=message):
        locate(written, store, no_download)


@pytest.mark.long
def test_a_server_that_is_down_is_told_at_once_and_once(monkeypatch):
    """MLflow itself tries for minutes."""
    tracking = Tracking.model_construct(uri="http://127.0.0.1:1")
    start = time.perf_counter()
    for _ in range(2):
        with pytest.raises(KdsweepError, match=r"runs:/1/w: tracking.uri=http://127.0.0.1:1 cannot"):
            download(tracking, "runs:/1/w")
    assert time.perf_counter() - start < 20


def test_old_checkpoints_need_no_batch_counts(tmp_path):
    state = build(LITE, 3, (3, 32, 32)).state_dict()
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    begin_with(build(LITE, 3, (3, 32, 32)), old, tmp_path / "old.pth", trained=False)


def test_weights_of_our_own_come_back_whole(tmp_path):
    trained = build(LITE, 3, (3, 32, 32))
    save_file(trained.state_dict(), tmp_path / "ours.safetensors")
    network = build_initial(LITE, 3, (3, 32, 32), tmp_path / "ours.safetensors")
    assert all(
        torch.equal(tensor, network.state_dict()[name]) for name, tensor in trained.state_dict().items()
    )


class Code:
    def __reduce__(self):
        return print, ("code was run",)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, capsys):
    torch.save({"state_dict": Code()}, tmp_path / "model.pth")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Code()))
    for name in ("model.pth", "plain.pkl"):
        with pytest.raises(ConfigError, match=r"perhaps code, and is not opened; save only the"):
            load_weights(tmp_path / name)
    assert "code was run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.safetensors", b"\x08\0\0\0", "cannot be read"),
        ("text.pth", b"nothing", "is not a PyTorch checkpoint or"),
        ("text2.pth", b"garbage" * 9, "not a PyTorch checkpoint"),
        ("empty.pt", b"", "cannot be read"),
    ],
)
def test_a_damaged_file_is_told(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        load_weights(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_file_without_tensors_is_told(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ConfigError, match="holds no tensors by name"):
        load_weights(tmp_path / "list.pt")


def test_weights_of_another_network_are_refused(tmp_path):
    other = nn.Sequential(nn.Flatten(), nn.Linear(9, 5), nn.Linear(5, 3))
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Linear(5, 3))
    with pytest.raises(
        ConfigError, match=r"1 of 4 tensors lack \(1.weight has shape \(5, 9\) in it and must"
    ):
        begin_with(network, other.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match=r"it has no 1.weight; its first is a"):
        begin_with(network, {"a": torch.zeros(1)}, tmp_path / "other.safetensors")


def test_a_head_of_other_classes_is_left_fresh(tmp_path):
    other = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Linear(5, 1000))
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Linear(5, 3))
    fresh = network[2].weight.clone()
    begin_with(network, other.state_dict(), tmp_path / "other.safetensors")
    assert torch.equal(network[1].weight, other[1].weight) and torch.equal(network[2].weight, fresh)


def test_weights_are_found_in_the_store_or_told(tmp_path):
    store = Store(tmp_path / "store")
    store.obtain(
        "a" * 32,
        lambda folder: save_file({"x": torch.ones(1)}, folder / weights.WEIGHTS),
        origin=Origin("stage", {}),
    )
    assert load_file(locate(f"stage:{'a' * 32}", store, no_download))["x"] == 1
    assert locate(
        "runs:/1/weights.safetensors", store, lambda uri: tmp_path / uri.rpartition("/")[2]
    ).name == ("weights.safetensors")
    for wrong, message in (
        ("stage:b", "has no such stage"),
        ("nowhere.pth", "no such file; allowed: a file"),
    ):
        with pytest.raises(ConfigError, match=message):
            locate(wrong, store, no_download)
