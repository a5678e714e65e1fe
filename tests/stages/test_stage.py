"""Keys: equal for equal recipes, different for different ones, everywhere."""

import subprocess
import sys
from dataclasses import replace

import pytest
from helpers import CNN, MLP, RECIPE, ROOT, kd_objective, make_stage, optimizer, schedule
from hypothesis import given
from hypothesis import strategies as st

from kdsweep.config import Augment, FineTuning
from kdsweep.stage import canonical, derive, digest

scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.text(max_size=3)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


def same(a, b) -> bool:
    """Equality of descriptions: numbers by value, but True is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@given(values, values)
def test_one_key_for_equal_descriptions_and_no_others(a, b):
    assert (digest({"v": a}) == digest({"v": b})) == same(a, b)


@given(values)
def test_numbers_and_sequences_have_one_form(value):
    assert canonical(value) == canonical(canonical(value))
    assert digest({"a": 4.0, "b": (1, 2)}) == digest({"b": [1, 2], "a": 4})


def test_key_does_not_drift():
    """A store must be found again by every later version, or FORMAT be raised."""
    stage = make_stage()
    taught = make_stage(objective=kd_objective(), parents=(stage,))
    assert stage.key == "6b5f32e7fda888669edf1969342a1197"
    assert taught.key == "f5cf9a1f2f0dd11102f1a9fa3e30488d"


def test_key_is_the_same_in_another_process():
    code = "from helpers import make_stage; print(make_stage().key)"
    for hash_seed in ("0", "1"):
        printed = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT / "tests",
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        )
        assert printed.stdout.strip() == make_stage().key


def test_derived_seeds_are_apart_and_of_32_bits():
    seeds = [
        derive(seed, number, purpose) for seed in (0, 1, 2**32 - 1) for number in (0, 1) for purpose in "ab"
    ]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**32 for seed in seeds)


def test_everything_that_shapes_the_weights_is_in_the_key():
    teacher = make_stage(CNN)
    kd = kd_objective()
    base = make_stage(objective=kd, parents=(teacher,))
    changed = [
        replace(base, data={**base.data, "fingerprint": "other"}),
        make_stage(objective=kd, parents=(teacher,), augment=Augment(crop_padding=1, horizontal_flip=False)),
        replace(base, model={**MLP, "hidden": [17]}),
        replace(base, source="edited"),
        replace(base, initial="weights"),
        replace(base, objective=kd_objective(5.0)),
        replace(base, objective=kd_objective(alpha=0.6)),
        replace(base, seed=1),
        replace(base, parents=()),
        replace(base, parents=(make_stage(CNN, seed=1),)),
    ]
    keys = {base.key, *(stage.key for stage in changed)}
    assert len(keys) == 1 + len(changed)


CHANGES = {
    "epochs": 5, "batch_size": 8, "optimizer": optimizer("Adam", eps=1e-7), "learning_rate": 0.1,
    "schedule": schedule("CosineAnnealingLR", T_max="epochs"),
    "keep": "last", "monitor": "val/cross_entropy", "patience": 2, "mixed_precision": True,
    "trainable": "head", "fine_tuning": FineTuning(epochs=1, learning_rate=1e-5, trainable="all"),
    "ema": 0.9, "clip_norm": 1.0, "sampling": "balanced", "answers": "float16",
}  # fmt: skip


@pytest.mark.parametrize("name", type(RECIPE).model_fields)
def test_every_part_of_a_training_recipe_is_in_the_key(name):
    assert make_stage(**{name: CHANGES[name]}).key != make_stage().key


def test_a_monitor_that_nothing_looks_at_is_not():
    assert make_stage(keep="last", monitor=CHANGES["monitor"]).key == make_stage(keep="last").key


def test_an_independent_zoom_is_in_the_key_where_there_is_a_zoom():
    def key(**augment: object) -> str:
        return make_stage(augment=Augment(**augment)).key

    assert key() == key(independent_zoom=True)
    assert key(zoom=(0.5, 1)) != key(zoom=(0.5, 1), independent_zoom=True)
    assert not Augment(independent_zoom=True).random


def test_a_stage_cannot_be_changed():
    with pytest.raises(AttributeError):
        make_stage().seed = 1
