"""Plans of composed configs, without data."""

from helpers import composed

from kdsweep.config import Network
from kdsweep.config.parse import parse
from kdsweep.stages.chains import Known, Plan, plan

SIZES = {"mnist_cnn": 1_000_000, "small_mlp": 100}


KNOWN = Known(
    source=lambda network: None,
    initial=lambda network: network.weights,
    parameters=lambda network: size(network),
    defaults=lambda network: {},
    on_gpu=lambda: False,
    draws_val=True,
    images=1000,
    trained_on=800,
    classes=tuple("0123456789"),
)


def size(network: Network) -> int:
    return SIZES.get(network.name) or int(network.name[1:])


def planned(*overrides: str) -> Plan:
    return plan(parse(composed(*overrides)), "content", KNOWN)


def keys(*overrides: str, known: Known = KNOWN) -> dict[str, str]:
    made = plan(parse(composed(*overrides)), "content", known)
    return {role: stage.key for role, stage in made.links().items()}
