"""Backbones of timm and torchvision: as the libraries make them, with a head for other classes."""

import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import timm as timm_library
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision import models

from kdsweep.errors import ConfigError
from kdsweep.networks.build import build, build_initial, check
from kdsweep.networks.fitting import begin_with
from kdsweep.networks.library import timm, torchvision
from kdsweep.networks.parts import layers
from kdsweep.training.frozen import cut, freeze, train

LITE = {"_target_": "kdsweep.networks.library.timm", "architecture": "test_resnet", "pretrained": False}
RESNET = {"_target_": "kdsweep.networks.library.torchvision", "architecture": "resnet18", "pretrained": False}


# Each of another family, or with another kind of head: a norm or several layers in it, two, a convolution.
QUICK_OF_TIMM = "test_resnet test_convnext2 deit_tiny_distilled_patch16_224 levit_128s resnetv2_18"
QUICK_OF_TORCHVISION = "vit_b_32 densenet121 squeezenet1_1 mnasnet0_5"
OF_TIMM = """
cait_xxs24_224 caformer_s18 coat_tiny convit_tiny convnext_atto cpubone_nano crossvit_tiny_240
cs3darknet_focus_s cspnext_tiny dla46x_c dpn48b edgenext_xx_small efficientformer_l1 efficientformerv2_s0
efficientvim_m1_dist efficientvit_b0 efficientvit_m0 ese_vovnet19b_slim_dw eva02_tiny_patch14_224 fasternet_t0
fastvit_t8 gernet_s ghostnet_050 gmlp_ti16_224 hgnetv2_b0 hrnet_w18_small iformer_t inception_next_atto
lcnetv2_small levit_conv_128s mobilenetv3_small_050 mobilenetv4_conv_small mobilevit_xxs nfnet_l0
pit_ti_distilled_224 pvt_v2_b0 regnetx_002 repghostnet_050 repvit_m1 resnet18 rexnet_100 shvit_s1 skresnet18
starnet_s050 swiftformer_xs test_byobnet test_coatnet test_efficientnet test_mambaout test_nfnet test_vit
test_vit4 test_vit_relpos tf_efficientnet_lite0 tiny_vit_5m_224 vit_tiny_r_s16_p8_224 volo_d1_224
xcit_nano_12_p8_224
"""
OF_TORCHVISION = """
alexnet convnext_tiny efficientnet_b0 maxvit_t mobilenet_v2 mobilenet_v3_small regnet_y_400mf resnet18
shufflenet_v2_x0_5 swin_t swin_v2_t
"""
CLASSES = 7
NOT_KEPT = ("squeezenet1_1", "crossvit_tiny_240", "efficientvim_m1_dist")  # features that are no one tensor


def of_the_library(library: str, name: str) -> tuple[nn.Module, Sequence[float], Sequence[float], int]:
    """A network as its library makes it, the normalisation of its images and their size."""
    if library == "timm":
        theirs = timm_library.create_model(name, num_classes=CLASSES)
        config = theirs.pretrained_cfg
        return theirs, config["mean"], config["std"], config["input_size"][-1]
    theirs = models.get_model(name, num_classes=CLASSES)
    trained = models.get_model_weights(name).DEFAULT.transforms()
    return theirs, trained.mean, trained.std, trained.crop_size[0]


@pytest.mark.parametrize(
    ("library", "name"),
    [
        *(("timm", name) for name in QUICK_OF_TIMM.split()),
        *(("torchvision", name) for name in QUICK_OF_TORCHVISION.split()),
        *(pytest.param("timm", name, marks=pytest.mark.long) for name in OF_TIMM.split()),
        *(pytest.param("torchvision", name, marks=pytest.mark.long) for name in OF_TORCHVISION.split()),
    ],
)
def test_a_backbone_is_the_network_of_its_library(library, name):
    """Whose weights give the very logits; whose head is trained on features that are computed once."""
    torch.manual_seed(0)
    theirs, mean, std, size = of_the_library(library, name)
    make = {"timm": timm, "torchvision": torchvision}[library]
    ours = make(CLASSES, 3, (size, size), name)
    begin_with(ours, theirs.state_dict(), Path("theirs"), trained=False)
    images = torch.rand(2, 3, size, size)
    seen = (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with torch.no_grad():
        assert torch.equal(ours.eval()(images), theirs.eval()(seen))

    small = make(CLASSES, 1, (20, 24), name)
    freeze(small, "head", list(small.parameters()))
    train(small)
    assert not any(module.training for module in small.modules() if isinstance(module, _BatchNorm))
    grey = torch.rand(2, 1, 20, 24)
    assert small(grey).shape == (2, CLASSES)
    halves = cut(small)
    assert (halves is None) == (name in NOT_KEPT)
    if halves:
        small.eval()
        with torch.no_grad():
            assert torch.equal(halves[1](halves[0](grey)), small(grey))


@pytest.mark.parametrize("library", [timm, torchvision])
def test_a_frozen_front_of_a_backbone_is_cut_off_where_its_parts_are_a_sequence(library):
    name = {timm: "test_resnet", torchvision: "resnet18"}[library]
    network = library(3, 3, (64, 64), name, upsample=1)
    freeze(network, 3, list(network.parameters()))
    train(network)
    front, rest = cut(network)
    assert not any(parameter.requires_grad for parameter in front.parameters())
    assert len(front) > 4 and any(True for _ in front.parameters())
    images = torch.rand(2, 3, 64, 64)
    network.eval()
    assert torch.equal(rest(front(images)), network(images))
    freeze(network, "all", list(network.parameters()))
    assert cut(network) is None
    tangled = timm(3, 3, (32, 32), "test_vit")
    freeze(tangled, 3, list(tangled.parameters()))
    assert cut(tangled) is None


def test_the_head_is_the_last_layer_wherever_a_library_declares_it():
    network = timm(3, 3, (32, 32), "volo_d1_224")
    assert set(layers(network)[-2:]) == set(network.head)
    freeze(network, "head", list(network.parameters()))
    learns = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert {name.rpartition(".")[0] for name in learns} == {"network.head", "network.aux_head"}


def test_the_head_of_the_library_stays_where_the_classes_are_its_own(monkeypatch):
    """As in the library; a head for other classes is drawn anew, the same way for both."""
    state = timm_library.create_model("test_resnet").state_dict()
    monkeypatch.setattr("kdsweep.networks.library.ask_hub", lambda *asked: None)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *asked, **options: dict(state))
    own = timm(1000, 3, (64, 64), "test_resnet", pretrained=True)
    assert torch.equal(own.network.fc.weight, state["fc.weight"])
    other = timm(3, 3, (64, 64), "test_resnet", pretrained=True)
    assert torch.equal(other.network.conv1[0].weight, state["conv1.0.weight"])
    assert other.network.fc.weight.abs().max() <= 96**-0.5, "as torch draws a dense layer of 96 features"


def test_a_stored_network_is_loaded_again():
    """Though torchvision's mnasnet asks a file which version of itself it is of."""
    network, again = (torchvision(3, 3, (64, 64), "mnasnet0_5") for _ in range(2))
    again.load_state_dict({name: tensor.clone() for name, tensor in network.state_dict().items()})
    assert torch.equal(again.network.classifier[1].weight, network.network.classifier[1].weight)


def test_images_come_in_the_size_that_a_network_was_trained_with():
    images = torch.rand(1, 3, 20, 20)
    size = timm(3, 3, (20, 20), "test_resnet").preprocess(images).shape[-2:]
    assert size == (160, 160)
    assert (
        timm(3, 3, (20, 20), "test_resnet", upsample=1).preprocess(torch.rand(1, 3, 20, 20)).shape[-1] == 20
    )
    nearest = timm(3, 3, (4, 4), "test_resnet", upsample=2).preprocess
    image = torch.rand(1, 3, 4, 4)
    expected = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(nearest(image), (expected - nearest.mean) / nearest.std)


def test_pooling_and_head_are_configurable():
    head = {"hidden": [128, 64], "dropout": 0.5, "batch_norm": True}
    network = torchvision(10, 3, (32, 32), "resnet18", pooling="max", upsample=8, head=head)
    assert [type(layer).__name__ for layer in network.network.fc] == [
        *("BatchNorm1d", "Linear", "ReLU", "Dropout") * 2,
        *("BatchNorm1d", "Linear"),
    ]
    assert isinstance(network.network.avgpool, nn.AdaptiveMaxPool2d)
    assert timm(10, 3, (32, 32), "test_resnet", head={"dropout": 0.3}).network.fc[0].p == 0.3
    network = timm(3, 3, (32, 32), "test_resnet", pooling="max")
    assert network.network.global_pool.pool_type == "max" and network(torch.rand(2, 3, 32, 32)).dim() == 2
    convolution = timm(3, 3, (32, 32), "resnetv2_18", upsample=1, head={"hidden": [4], "dropout": 0.1})
    assert convolution(torch.rand(2, 3, 32, 32)).shape == (2, 3)


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
            "pooling=max: shufflenet_v2_x0_5 has no pooling to replace; allowed: own",
        ),
        (
            {**RESNET, "architecture": "squeezenet1_0", "head": {"hidden": [4]}},
            (3, 32, 32),
            "squeezenet1_0 classifies before it pools, so its head must have one layer",
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
    theirs = timm_library.create_model("test_resnet", num_classes=1000)
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    network = build_initial(LITE, 3, (3, 32, 32), tmp_path / "theirs.safetensors")
    own = network.state_dict()
    for name, tensor in theirs.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(own[f"network.{name}"], tensor), name
    deep = build_initial({**LITE, "head": {"hidden": [4]}}, 3, (3, 32, 32), tmp_path / "theirs.safetensors")
    assert torch.equal(deep.network.conv1[0].weight, theirs.conv1[0].weight), "its old head is left out"
    assert own["network.fc.weight"].shape == (3, theirs.num_features)


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_whole_network_of_a_library_is_taken_as_it_is(tmp_path, library):
    """Its own classifier too, where it is for as many classes."""
    if library == "timm":
        theirs, model = timm_library.create_model("test_resnet", num_classes=5), LITE
        inputs = theirs.pretrained_cfg
        mean, std = (torch.tensor(inputs[key])[:, None, None] for key in ("mean", "std"))
    else:
        theirs = models.get_model("mobilenet_v3_small", num_classes=5)
        model = {**RESNET, "architecture": "mobilenet_v3_small"}
        mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    file = tmp_path / "theirs.safetensors"
    save_file(theirs.state_dict(), file)
    ours = build_initial({**model, "upsample": 1}, 5, (3, 64, 64), file, trained=False).eval()
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(ours(images), theirs.eval()((images - mean) / std), rtol=1e-4, atol=1e-4)
    build_initial(model, 3, (3, 64, 64), file)
    with pytest.raises(ConfigError, match="a network that is not trained needs all weights, also its head's"):
        build_initial(model, 3, (3, 64, 64), file, trained=False)


def test_pretrained_weights_that_cannot_be_downloaded_are_told(monkeypatch, tmp_path):
    def offline(*arguments: object, **options: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", offline)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    told = rf"OSError: Name or .*download resnet18-f37072fd.pth on another machine into {tmp_path}"
    for pretrained in (True, "IMAGENET1K_V1"):
        with pytest.raises(ConfigError, match=f"{told}.*pretrained=false, or weights=FILE") as error:
            check({**RESNET, "pretrained": pretrained}, 3, (3, 32, 32))
        assert "\n" not in str(error.value)
    build({**RESNET, "pretrained": True}, 3, (3, 32, 32))  # to be filled with stored weights: none are needed


@pytest.mark.parametrize("answer", ["refused", "busy"])
def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch, tmp_path, answer):
    """The hub's own downloads try six times for each of two files: 47 s."""
    asked = []

    class Busy(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(503)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Busy) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1] if answer == "busy" else 1
        monkeypatch.setattr(
            "huggingface_hub.hf_hub_url", lambda *asked, **options: f"http://127.0.0.1:{port}/"
        )
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        start = time.perf_counter()
        with pytest.raises(ConfigError, match=r"download timm/test_resnet.r160_in1k of the Hugging") as told:
            build_initial({**LITE, "pretrained": True}, 3, (3, 32, 32), None)
        server.shutdown()
    assert time.perf_counter() - start < 5
    assert len(asked) == (answer == "busy")
    assert str(told.value).startswith("model.pretrained: the weights of test_resnet cannot be downloaded (")


def test_pretrained_weights_are_chosen_by_name(monkeypatch):
    """Only those that see images as the newest do, for stored weights are loaded without their name."""
    asked = []

    def given(weights: object, *arguments: object, **options: object) -> dict:
        asked.append(weights.name)
        return models.mobilenet_v2().state_dict()

    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", given)
    network = {**RESNET, "architecture": "mobilenet_v2"}
    for pretrained in ("IMAGENET1K_V1", True):
        build_initial({**network, "pretrained": pretrained}, 3, (3, 32, 32), None)
    assert asked == ["IMAGENET1K_V1", "IMAGENET1K_V2"]
    with pytest.raises(
        ConfigError, match=r"pretrained=V1; allowed: true, false, IMAGENET1K_V1, IMAGENET1K_V2$"
    ):
        build_initial({**network, "pretrained": "V1"}, 3, (3, 32, 32), None)
    vit = {**RESNET, "architecture": "vit_b_16", "pretrained": "IMAGENET1K_SWAG_E2E_V1"}
    with pytest.raises(ConfigError, match=r"false, IMAGENET1K_V1, IMAGENET1K_SWAG_LINEAR_V1$"):
        build_initial(vit, 3, (3, 224, 224), None)
