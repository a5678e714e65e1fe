"""Plans: which stages a chain has, who teaches whom, and what chains share."""

import itertools
import subprocess
import sys
from dataclasses import replace
from math import log

import pytest
from helpers import composed, literal
from hypothesis import given
from hypothesis import strategies as st
from planning import KNOWN, planned

from kdsweep.config.parse import parse
from kdsweep.errors import ConfigError
from kdsweep.stages.chains import Known, Plan, evenly_spaced, plan

MLP = {"_target_": "kdsweep.networks.zoo.mlp.MLP"}


def assistants(*sizes: int) -> str:
    listed = [{"name": f"n{size}", "model": {**MLP, "hidden": [size]}} for size in sizes]
    return f"student.assistants={literal(listed)}"


def hidden(made: Plan) -> list[int]:
    """The assistants of a plan by their width."""
    return [stage.model["hidden"][0] for role, stage in made.chain.items() if role.startswith("assistant")]


THREE = assistants(90_000, 8_000, 1_000)


def test_a_plain_chain_is_teacher_and_student():
    made = planned()
    assert list(made.chain) == ["teacher", "student"]
    assert made.chain["student"].parents == (made.chain["teacher"],)
    assert list(made.links()) == ["teacher", "scratch", "student"]
    assert not made.scratch.parents


def test_scratch_is_a_chain_of_one():
    assert list(planned("method=scratch").links()) == ["student"]


def test_assistants_teach_down_the_chain():
    made = planned("method=takd", "chain_length=4", THREE)
    assert list(made.chain) == ["teacher", "assistant1", "assistant2", "assistant3", "student"]
    links = list(made.chain.values())
    assert all(after.parents == (before,) for before, after in itertools.pairwise(links))
    assert hidden(made) == [90_000, 8_000, 1_000]


def test_fewer_assistants_are_those_most_evenly_spaced():
    assert hidden(planned("method=takd", "chain_length=2", THREE)) == [8_000]
    assert hidden(
        planned("method=takd", "chain_length=3", assistants(900_000, 50_000, 40_000, 2_000, 120))
    ) == [
        50_000,
        2_000,
    ]


@given(st.lists(st.integers(11, 10**7), min_size=1, max_size=5), st.data())
def test_no_other_choice_is_more_even(inner, data):
    inner = sorted(inner, reverse=True)
    count = data.draw(st.integers(0, len(inner)))
    sizes = [10**8, *inner, 10]
    chosen = evenly_spaced(sizes, count)
    assert len(chosen) == count and list(chosen) == sorted(set(chosen))

    def steps(picked):
        path = [10**8, *(inner[i] for i in picked), 10]
        return sum(log(a / b) ** 2 for a, b in itertools.pairwise(path))

    other = sorted(data.draw(st.permutations(range(len(inner))))[:count])
    assert steps(chosen) <= steps(other) + 1e-9


def test_an_assistant_may_have_its_own_recipe_temperature_and_alpha():
    listed = [{"name": "n9", "model": {**MLP, "hidden": [9]}, "training": {"epochs": 3}, "temperature": 1.0}]
    made = planned("method=takd", "chain_length=2", f"student.assistants={literal(listed)}")
    assistant, student = made.chain["assistant1"], made.chain["student"]
    assert (assistant.training.epochs, student.training.epochs) == (3, 60)
    assert assistant.objective["kd"]["temperature"] == 1.0
    assert assistant.objective["labels"]["weight"] == assistant.objective["kd"]["weight"] == 0.5
    assert student.objective["kd"]["temperature"] == 4.0


def test_densely_guided_links_have_all_before_as_teachers():
    made = planned("method=dgkd", "chain_length=3", THREE)
    links = list(made.chain.values())
    assert [link.parents for link in links] == [(), (links[0],), tuple(links[:2]), tuple(links[:3])]


def test_generations_are_the_same_student_from_other_initial_weights():
    made = planned(
        "method=ban",
        "chain_length=3",
        "teacher.name=mlp",
        f"teacher.model._target_={MLP['_target_']}",
        "~teacher.model.conv_dropout",
        "~teacher.model.dense_dropout",
        "seed=7",
    )
    assert list(made.chain) == ["teacher", "generation1", "generation2", "student"]
    _, *generations = made.chain.values()
    assert len({str(stage.model) for stage in generations}) == 1
    assert len({stage.seed for stage in made.chain.values()}) == 4
    assert generations[2].parents == (generations[1],)
    assert all(0 <= stage.seed < 2**32 for stage in generations), "torch's generator looks at 32 bits"


def test_chains_of_generations_share_their_prefixes():
    chains = [planned("method=ban", f"chain_length={n}").links() for n in (1, 2, 3, 4)]
    keys = [{stage.key for stage in links.values()} for links in chains]
    assert keys[0] < keys[1] < keys[2] < keys[3]
    assert len(keys[3]) == 1 + 1 + 4, "teacher, student alone, four generations"


def test_a_sweep_of_chains_trains_a_shared_assistant_once():
    chains = [planned("method=takd", f"chain_length={n}", THREE) for n in (1, 2, 3, 4)]
    stages = [stage.key for each in chains for stage in each.links().values()]
    # teacher and student alone; students of four chains; the assistant of the second, three of the fourth, of
    # which the third chain takes the first two
    assert [hidden(each) for each in chains[1:3]] == [[8_000], [90_000, 8_000]]
    assert len(set(stages)) == 2 + 4 + 1 + 3


def test_members_of_the_ensemble_are_choosable():
    assert list(planned("method=ban", "chain_length=2").ensemble.members) == [
        "teacher",
        "generation1",
        "student",
    ]
    ban = ("method=ban", "chain_length=3")
    assert list(planned(*ban, "chain.ensemble=[generations]").ensemble.members) == [
        "generation1",
        "generation2",
        "student",
    ]
    assert list(planned(*ban, "chain.ensemble=[generation3,generation1]").ensemble.members) == [
        "generation1",
        "student",
    ], "the last generation is the student"
    assert list(planned(*ban, "chain.ensemble=[student,generation1]").ensemble.members) == [
        "generation1",
        "student",
    ]
    assert planned(*ban, "chain.ensemble=[]").ensemble is None
    assert not planned("method=ban", "chain.ensemble=[generations]").ensemble, "one is none"
    with pytest.raises(
        ConfigError, match=r"chain\.ensemble=generation9: no such link; allowed: teacher, gen"
    ):
        planned(*ban, "chain.ensemble=[generation9]")


def test_the_loss_decides_what_is_in_the_key():
    def student(*overrides: str) -> str:
        return planned(*overrides).chain["student"].key

    mse = ("method=logit_mse", "alpha=0")
    assert student(*mse) == student(*mse, "temperature=9"), "temperature plays no part"
    assert student(*mse) != student(*mse, "alpha=0.1")
    assert student() != student("method.terms.kd.scale_by_temperature_squared=false")
    assert student() == student("method=takd") == student("method=dgkd"), "one step is one step"


def test_initial_weights_are_in_the_key():
    assert planned().chain["teacher"].key != planned("teacher.weights=file").chain["teacher"].key


def test_what_is_not_used_is_not_in_the_key():
    own = replace(KNOWN, draws_val=False)

    def key(*overrides: str, known: Known = KNOWN) -> str:
        return plan(parse(composed(*overrides)), "content", known).chain["teacher"].key

    for override in ("dataset.val_fraction=0.3", "dataset.split_seed=3"):
        assert key(override, known=own) == key(known=own)
        assert key(override) != key()
    none = "dataset.val_fraction=0"
    assert key(none) == key(none, "dataset.split_seed=3") != key()
    given = ("teacher=timm", "teacher.weights=file")
    assert key(*given) == key(*given, "teacher.model.pretrained=false"), "the file is taken"
    still = (*given, "teacher.training.epochs=0")
    assert key(*still) == key(*still, "teacher.training.learning_rate=1")


def test_what_does_not_shape_the_weights_is_not_in_the_key():
    base = planned().chain["student"].key
    for override in ("dataset.root=elsewhere", "dataset.name=mine", "dataset.test_limit=9", "store=other"):
        assert planned(override).chain["student"].key == base


def test_planning_needs_no_torch():
    code = "import sys, kdsweep.stages.chains, kdsweep.config.parse; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
