"""Whatever is wrong with a checkpoint, training starts anew with a warning, and comes to the same weights."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fitting import assert_same, train
from helpers import CNN, make_stage
from safetensors import safe_open
from safetensors.torch import load_file, save_file

STAGE = make_stage(CNN)  # dropout, BatchNorm and Adam: every generator and kind of tensor
NAME = "checkpoint.safetensors"


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory) -> Path:
    """A checkpoint after the second of four epochs."""
    folder = tmp_path_factory.mktemp("interrupted")

    def kill(epoch: int, metrics: object, seconds: float) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kdsweep.training.checkpoint.SECONDS_BETWEEN_SAVES", 0)
        with pytest.raises(KeyboardInterrupt):
            train(STAGE, folder, kill)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(STAGE, tmp_path_factory.mktemp("whole"))


def rewritten(
    change: Callable[[dict[str, torch.Tensor], dict[str, object]], object],
) -> Callable[[Path], None]:
    """The file as it would be had it been written with another content, its checksum being left."""

    def damage(file: Path) -> None:
        tensors = load_file(file)
        with safe_open(file, "pt") as stored:
            metadata = stored.metadata()
        progress = json.loads(metadata["progress"])
        change(tensors, progress)
        save_file(tensors, file, {**metadata, "progress": json.dumps(progress)})

    return damage


def _first(tensors: dict[str, torch.Tensor], part: str) -> str:
    return next(name for name, tensor in tensors.items() if name.startswith(part) and tensor.numel() > 1)


def tensor(part: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def damage(tensors: dict[str, torch.Tensor], progress: dict[str, object]) -> None:
        name = _first(tensors, part)
        tensors[name] = change(tensors[name])

    return rewritten(damage)


def told(**values: object) -> Callable[[Path], None]:
    return rewritten(lambda tensors, progress: progress.update(values))


def _renamed(part: str, name: str) -> Callable[[Path], None]:
    return rewritten(lambda tensors, progress: tensors.update({name: tensors.pop(_first(tensors, part))}))


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()
    (file / "file").touch()


def _file_for_its_folder(file: Path) -> None:
    shutil.rmtree(file.parent)
    file.parent.touch()


def _without_metadata(file: Path) -> None:
    save_file(load_file(file), file)


def _link_to_nowhere(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "nonsense": lambda file: file.write_bytes(b"nonsense"),
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-9]),
    "longer": lambda file: file.write_bytes(file.read_bytes() + bytes(8)),
    "a huge header": lambda file: file.write_bytes((2**62).to_bytes(8, "little") + file.read_bytes()[8:]),
    "a folder": _folder,
    "a file for its folder": _file_for_its_folder,
    "a link to nowhere": _link_to_nowhere,
    "no metadata": _without_metadata,
    "epoch 1000": told(epoch=1000),
    "an epoch more": told(epoch=3),
    "an epoch less": told(epoch=1),
    "an epoch in words": told(epoch="two"),
    "a history in words": told(history="good"),
    "a shorter history": told(history=[]),
    "another best epoch": told(best_epoch=1, best_score=[0.0, 0.0]),
    "an unknown key": told(more=1),
    "NaN in the network": tensor("network", lambda old: old * float("nan")),
    "another dtype": tensor("network", lambda old: old.double()),
    "another shape": tensor("network", lambda old: old[None]),
    "a renamed tensor": _renamed("network", "network/other"),
    "best of zeros": tensor("best", torch.zeros_like),
    "an optimizer's tensor of another name": _renamed("optimizer", "optimizer/nodot"),
    "an optimizer's tensor of parameter 99": _renamed("optimizer", "optimizer/99.exp_avg"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_starts_training_anew(interrupted, whole, tmp_path, caplog, damage):
    folder = shutil.copytree(interrupted, tmp_path / "unfinished")
    DAMAGES[damage](folder / NAME)
    epochs: list[int] = []
    assert_same(whole, train(STAGE, folder, lambda epoch, metrics, seconds: epochs.append(epoch)))
    assert epochs == [1, 2, 3, 4]
    assert caplog.text.count("training starts anew") == 1


def test_no_flipped_bit_is_trained_on(interrupted, whole, tmp_path, caplog):
    draw = random.Random(5)
    content = (interrupted / NAME).read_bytes()
    for number in range(25):
        place, bit = draw.randrange(8 if number < 5 else len(content)), 1 << draw.randrange(8)
        flipped = bytearray(content)
        flipped[place] ^= bit
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / NAME).write_bytes(flipped)
        caplog.clear()
        assert_same(whole, train(STAGE, folder))
        header = int.from_bytes(content[:8], "little") + 8
        assert place < header or "training starts anew" in caplog.text


def test_a_whole_one_is_gone_on_from(interrupted, whole, tmp_path, caplog):
    folder = shutil.copytree(interrupted, tmp_path / "unfinished")
    epochs: list[int] = []
    assert_same(whole, train(STAGE, folder, lambda epoch, metrics, seconds: epochs.append(epoch)))
    assert epochs == [3, 4] and not caplog.text


def test_a_checkpoint_of_another_network_is_not_taken(interrupted, tmp_path, caplog):
    """Such as of another version of an installed library, which is no part of the key."""
    folder = shutil.copytree(interrupted, tmp_path / "unfinished")
    other = make_stage(learning_rate=0.02)
    assert_same(train(other, tmp_path / "whole"), train(other, folder))
    assert "belongs to another network" in caplog.text
