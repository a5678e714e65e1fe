"""Backbones of timm and torchvision, and weights from files, the store and MLflow."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import mobilenet_v2

from kdsweep.errors import ConfigError
from kdsweep.models import weights
from kdsweep.models.backbone import timm, torchvision
from kdsweep.models.build import build, build_initial, check
from kdsweep.models.weights import begin_with, load_weights, locate
from kdsweep.store import Origin, Store
from kdsweep.training.frozen import cut, freeze

SMALL = (3, 3, (32, 32))
LITE = {"_target_": "kdsweep.models.backbone.timm", "architecture": "test_resnet", "pretrained": False}
RESNET = {"_target_": "kdsweep.models.backbone.torchvision", "architecture": "resnet18", "pretrained": False}


def no_download(uri: str) -> Path:
    raise AssertionError(uri)


@pytest.mark.parametrize(
    ("library", "name"),
    [
        (timm, "test_resnet"),
        (timm, "test_efficientnet"),
        (timm, "test_vit"),
        (torchvision, "shufflenet_v2_x0_5"),
        (torchvision, "mobilenet_v3_small"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_backbone_gives_logits_of_our_classes(library, name, channels):
    network = library(7, channels, (20, 24), name).eval()
    assert network(torch.rand(2, channels, 20, 24)).shape == (2, 7)
    freeze(network, "head", list(network.parameters()))
    front, rest = cut(network)
    images = torch.rand(2, channels, 20, 24)
    torch.testing.assert_close(rest(front(images)), network(images))
    assert not any(parameter.requires_grad for parameter in front.parameters())


def test_parts_in_sequence_are_the_librarys_network():
    import timm as library

    theirs = library.create_model("test_efficientnet", num_classes=0).eval()
    ours = timm(3, 3, (64, 64), "test_efficientnet", upsample=1).eval()
    assert len(ours) > 3, "so that a front can be cut off"
    begin_with(ours, theirs.state_dict(), Path("theirs"))
    images = torch.rand(2, 3, 64, 64)
    mean = torch.tensor(theirs.pretrained_cfg["mean"])[:, None, None]
    std = torch.tensor(theirs.pretrained_cfg["std"])[:, None, None]
    features = nn.Sequential(*list(ours)[:-1])(images)
    torch.testing.assert_close(features, theirs((images - mean) / std), rtol=1e-4, atol=1e-4)


def test_images_come_in_the_size_that_a_network_was_trained_with():
    size = timm(3, 3, (20, 20), "test_resnet")[0](torch.rand(1, 3, 20, 20)).shape[-2:]
    assert size == (160, 160)
    assert timm(3, 3, (20, 20), "test_resnet", upsample=1)[0](torch.rand(1, 3, 20, 20)).shape[-1] == 20
    nearest = timm(3, 3, (4, 4), "test_resnet", upsample=2)[0]
    image = torch.rand(1, 3, 4, 4)
    expected = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(nearest(image), (expected - nearest.mean) / nearest.std)


def test_pooling_and_head_are_configurable():
    head = {"hidden": [128, 64], "dropout": 0.5, "batch_norm": True}
    network = torchvision(10, 3, (32, 32), "resnet18", pooling="max", upsample=8, head=head)
    assert [type(layer).__name__ for layer in network.head] == [
        *("BatchNorm1d", "Linear", "ReLU", "Dropout") * 2,
        *("BatchNorm1d", "Linear"),
    ]
    assert any(isinstance(module, nn.AdaptiveMaxPool2d) for module in network)
    assert timm(10, 3, (32, 32), "test_resnet", head={"dropout": 0.3}).head[0].p == 0.3
    features = nn.Sequential(*list(timm(3, 3, (32, 32), "test_resnet", pooling="max"))[:-1])
    assert features.eval()(torch.rand(2, 3, 32, 32)).dim() == 2


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        ({**LITE, "architecture": "resnet999"}, (3, 8, 8), "Unknown model"),
        ({**RESNET, "architecture": "resnet999"}, (3, 8, 8), "Unknown model resnet999"),
        (LITE, (2, 8, 8), "images have 2 channels; must have 1 or 3"),
        ({**LITE, "upsample": 0}, (3, 8, 8), "upsample=0: allowed: own, or a factor of 1 or more"),
        (
            {**RESNET, "architecture": "shufflenet_v2_x0_5", "pooling": "max"},
            (3, 32, 32),
            "pooling=max: shufflenet_v2_x0_5 has no pooling to change; allowed: own",
        ),
        (
            {**RESNET, "architecture": "squeezenet1_0"},
            (3, 32, 32),
            "does not end in a dense layer",
        ),
        (
            {**RESNET, "architecture": "googlenet"},
            (3, 32, 32),
            "gives auxiliary outputs in training",
        ),
        ({**LITE, "head": {"width": 3}}, (3, 8, 8), "unexpected keyword argument 'width'"),
    ],
)
def test_what_does_not_fit_is_told_in_a_line(model, shape, message):
    with pytest.raises(ConfigError, match=message) as error:
        check(model, 3, shape)
    assert "\n" not in str(error.value)


def test_a_file_of_weights_gives_all_but_the_head(tmp_path):
    theirs = __import__("timm").create_model("test_resnet", num_classes=1000)
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    network = build_initial(LITE, 3, (3, 32, 32), tmp_path / "theirs.safetensors")
    own = network.state_dict()
    for name, tensor in theirs.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(own[network.original_names[name]], tensor), name
    assert own["head.0.weight"].shape == (3, theirs.num_features)


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_whole_network_of_a_library_is_taken_as_it_is(tmp_path, library):
    """Its own classifier too, where it is for as many classes."""
    if library == "timm":
        theirs, model = __import__("timm").create_model("test_resnet", num_classes=5), LITE
        inputs = theirs.pretrained_cfg
        mean, std = (torch.tensor(inputs[key])[:, None, None] for key in ("mean", "std"))
    else:
        theirs = __import__("torchvision").models.get_model("mobilenet_v3_small", num_classes=5)
        model = {**RESNET, "architecture": "mobilenet_v3_small"}
        mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    file = tmp_path / "theirs.safetensors"
    save_file(theirs.state_dict(), file)
    ours = build_initial({**model, "upsample": 1}, 5, (3, 64, 64), file, trained=False).eval()
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(ours(images), theirs.eval()((images - mean) / std), rtol=1e-4, atol=1e-4)
    build_initial(model, 3, (3, 64, 64), file)
    with pytest.raises(ConfigError, match="a network that is not trained needs all, its head too"):
        build_initial(model, 3, (3, 64, 64), file, trained=False)


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


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"epoch": 3, "state_dict": state}])
def test_a_pytorch_checkpoint_is_read(tmp_path, wrap):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save(wrap(state), tmp_path / "model.pth")
    read = load_weights(tmp_path / "model.pth")
    assert read.keys() == network.state_dict().keys()
    assert torch.equal(read["1.weight"], network[1].weight)


class Code:
    def __reduce__(self):
        return print, ("code was run",)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, capsys):
    torch.save({"state_dict": Code()}, tmp_path / "model.pth")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Code()))
    for name in ("model.pth", "plain.pkl"):
        with pytest.raises(ConfigError, match=r"perhaps code, and is not opened; save the"):
            load_weights(tmp_path / name)
    assert "code was run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.safetensors", b"\x08\0\0\0", "cannot be read"),
        ("text.pth", b"nothing", "is no PyTorch checkpoint or"),
        ("text2.pth", b"garbage" * 9, "no PyTorch checkpoint"),
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
        ConfigError, match=r"1 of 4 tensors lack \(1.weight has shape \(5, 9\) there and must"
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


def test_pretrained_weights_that_cannot_be_downloaded_are_told(monkeypatch):
    def offline(*arguments: object, **options: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", offline)
    with pytest.raises(ConfigError, match=r"(?s)OSError: Name or .*pretrained=false, or weights=FILE"):
        check({**RESNET, "pretrained": True}, 3, (3, 32, 32))
    with pytest.raises(ConfigError, match=r"(?s)OSError: Name or .*pretrained=false, or weights=FILE"):
        check({**RESNET, "pretrained": "IMAGENET1K_V1"}, 3, (3, 32, 32))
    build({**RESNET, "pretrained": True}, 3, (3, 32, 32))  # to be filled with stored weights: none are needed


def test_pretrained_weights_are_chosen_by_name(monkeypatch):
    """Only those that see images as the newest do, for stored weights are loaded without their name."""
    asked = []

    def given(weights: object, *arguments: object, **options: object) -> dict:
        asked.append(weights.name)
        return mobilenet_v2().state_dict()

    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", given)
    network = {**RESNET, "architecture": "mobilenet_v2"}
    for pretrained in ("IMAGENET1K_V1", True):
        build_initial({**network, "pretrained": pretrained}, 3, (3, 32, 32), None)
    assert asked == ["IMAGENET1K_V1", "IMAGENET1K_V2"]
    with pytest.raises(
        ConfigError, match="pretrained=V1; allowed: true, false, IMAGENET1K_V1, IMAGENET1K_V2\n"
    ):
        build_initial({**network, "pretrained": "V1"}, 3, (3, 32, 32), None)
    vit = {**RESNET, "architecture": "vit_b_16", "pretrained": "IMAGENET1K_SWAG_E2E_V1"}
    with pytest.raises(ConfigError, match="false, IMAGENET1K_V1, IMAGENET1K_SWAG_LINEAR_V1\n"):
        build_initial(vit, 3, (3, 224, 224), None)
