"""Plans of jobs with several teachers, and with teachers that are no usual networks."""

import pytest
from planning import planned

from kdsweep.errors import ConfigError
from kdsweep.networks import CLASSES, GIVES

SECOND = ("+teacher@teachers.second=resnet",)
FILE = ("teacher.weights=w", "teacher.training.epochs=0")
DIGITS = tuple("0123456789")


def test_several_teachers_teach_the_student_and_are_evaluated_together():
    plan = planned(*SECOND)
    assert list(plan.links()) == ["teacher", "teachers.second", "scratch", "student"]
    first, second, student = plan.chain.values()
    assert student.parents == (first, second) and first.parents == second.parents == ()
    assert second.training == first.training, "its recipe is the first teacher's"
    assert (
        list(plan.ensemble.members)
        == list(plan.teachers["student"].members)
        == ["teacher", "teachers.second"]
    )


def test_how_they_are_averaged_counts_where_it_has_an_effect():
    keys = {
        how: planned(*SECOND, f"chain.average={how}").chain["student"].key
        for how in ("terms", "probabilities", "logits")
    }
    assert len(set(keys.values())) == 3
    alone = [planned(f"chain.average={how}").chain["student"].key for how in ("terms", "logits")]
    assert alone[0] == alone[1], "one teacher is averaged with no other"
    assert planned("chain.average=logits", "alpha=1", *SECOND).chain["student"].parents == ()


def test_weights_count_relative_to_each_other():
    def key(first: float, second: float) -> str:
        weights = (f"teacher.weight={first}", f"+teachers.second.weight={second}")
        return planned(*SECOND, *weights).chain["student"].key

    assert key(1.0, 1.0) == key(3.0, 3.0) == planned(*SECOND).chain["student"].key
    assert key(2.0, 1.0) == key(4.0, 2.0) != key(1.0, 2.0)
    plan = planned(*SECOND, "teacher.weight=3.0")
    assert plan.chain["student"].average.weights == plan.ensemble.average.weights == (0.75, 0.25)


def test_a_teacher_of_the_same_recipe_has_a_seed_of_its_own():
    plan = planned("+teacher@teachers.second=mnist_cnn", "+teacher@teachers.third=mnist_cnn")
    first, second, third, _ = plan.chain.values()
    assert len({first.key, second.key, third.key}) == 3 and first.seed == 0
    assert first.key == planned().chain["teacher"].key, "the first is the one of other sweeps"


def test_the_first_assistant_is_taught_by_all_teachers_and_the_student_by_the_assistant():
    listed = "student.assistants=[{name:n9,model:{_target_:kdsweep.networks.zoo.mlp.MLP,hidden:[9]}}]"
    chain = planned(*SECOND, "method=takd", "chain_length=2", listed).chain
    assert chain["assistant1"].parents == (chain["teacher"], chain["teachers.second"])
    assert chain["student"].parents == (chain["assistant1"],)
    dense = planned(*SECOND, "method=dgkd", "chain_length=2", listed, "teacher.weight=2.0")
    assert len(dense.chain["student"].parents) == 3
    assert dense.chain["student"].average.weights == (0.5, 0.25, 0.25), "a link counts as 1"


def test_an_ensemble_of_generations_may_have_all_teachers():
    ban = planned(*SECOND, "method=ban", "chain_length=2")
    assert list(ban.ensemble.members) == ["teacher", "teachers.second", "generation1", "student"]
    assert ban.ensemble.average.of == "terms"


def marked(*overrides: str) -> dict[str, object]:
    return planned(*FILE, *overrides).chain["teacher"].model


def test_classes_in_another_order_or_more_of_them_are_mapped():
    assert CLASSES not in marked()
    assert CLASSES not in marked(f"teacher.classes=[{','.join(DIGITS)}]"), "they are the data set's"
    swapped = marked("teacher.classes=[9,8,7,6,5,4,3,2,1,0]")
    assert swapped[CLASSES] == {"outputs": 10, "of": [[9 - number] for number in range(10)]}
    more = marked("teacher.classes=[x,0,1,2,3,4,5,6,7,8,9,0]")[CLASSES]
    assert (more["outputs"], more["of"][0], more["of"][9]) == (12, [1, 11], [10])
    groups = ",".join(f"{name}:{10 * int(name)}-{10 * int(name) + 9}" for name in DIGITS)
    tens = marked("teacher.num_classes=100", f"teacher.classes={{{groups}}}")[CLASSES]
    assert tens["outputs"] == 100 and tens["of"][3] == list(range(30, 40))
    assert marked("teacher.gives=probabilities")[GIVES] == "probabilities"


REFUSED = {
    "a class without an output": (
        ("teacher.classes=[0,1,2]",),
        r"teacher\.classes: has no output for 3, 4, 5, 6, 7; every class",
    ),
    "a class that is none": (
        ("teacher.num_classes=9", "teacher.classes={zero:1}"),
        r"teacher\.classes: zero: no such class; allowed: 0, 1",
    ),
    "an output that is none": (
        ("teacher.num_classes=9", "teacher.classes={0:3-9}"),
        r"teacher\.classes\.0: names output 9; allowed: 0 to 8",
    ),
    "groups without their number": (("teacher.classes={0:3}",), r"teacher\.num_classes: the number of"),
    "a number without groups": (("teacher.num_classes=9",), r"teacher\.num_classes: the number of"),
    "no outputs": (("teacher.classes={0:9-3}",), r"teacher\.classes: must be the names of all its outputs"),
    "classes of embeddings": (
        ("teacher.gives=embedding", "teacher.classes=[0,1]"),
        "an embedding has no classes",
    ),
    "logits of a backbone": (
        ("teacher.gives=embedding",),
        r"method\.terms\.kd: takes the teacher's logits, and teacher gives embeddings; take a method of",
    ),
    "the head of a backbone": (
        ("teacher.gives=embedding", "method=srrl"),
        r"method\.terms\.\w+: takes the teacher's head",
    ),
    "a head with mapped outputs": (
        ("teacher.classes=[9,8,7,6,5,4,3,2,1,0]", "method=simkd"),
        "method=simkd: takes the head of teacher, whose outputs are mapped",
    ),
    "the head of one of several": ((*SECOND, "method=simkd"), "method=simkd: takes the head of one teacher"),
    "averaged logits of maps": (
        (*SECOND, "method=at", "chain.average=logits"),
        r"chain\.average=logits: averages logits, and method\.terms\.at looks at stages",
    ),
    "random images for a file of outputs": (
        ("teacher=outputs", "teacher.weights=t.npz", "dataset.augment.horizontal_flip=true"),
        r"teacher=outputs: saw the images unchanged, and dataset\.augment changes them",
    ),
    "a file that trains": (
        ("teacher=outputs", "teacher.weights=t.npz", "teacher.training.epochs=3"),
        r"teacher\.training\.epochs=3: must be 0, its network is only a file",
    ),
    "a weight of one": (("teacher.weight=2.0",), r"teacher\.weight: is for several teachers"),
    "one network twice": (
        ("teacher=outputs", "teacher.weights=t", "+teacher@teachers.b=outputs", "+teachers.b.weights=t"),
        r"teachers\.b: is the same network as an earlier teacher",
    ),
    "a name that is none": (("+teacher@teachers.9=resnet",), r"teachers\.9: a name must be a word"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_refused_in_a_line(what):
    overrides, why = REFUSED[what]
    file = (
        ()
        if any(each.startswith(("teacher=outputs", "+teacher", "teacher.weight=")) for each in overrides)
        else FILE
    )
    with pytest.raises(ConfigError, match=why) as found:
        planned(*file, *overrides)
    assert "\n" not in str(found.value)


def test_a_pretrained_network_without_training_has_no_head_for_the_classes():
    library = ("teacher=timm", "teacher.training.epochs=0")
    with pytest.raises(
        ConfigError, match=r"^teacher\.training\.epochs=0: must be 1 or more, or teacher\.weights"
    ):
        planned(*library)
    planned(*library, "teacher.gives=embedding", "method=rkd")


def test_a_mapped_teacher_must_be_trained_already():
    with pytest.raises(ConfigError, match=r"teacher\.classes: is for a teacher that is trained already"):
        planned("teacher.classes=[9,8,7,6,5,4,3,2,1,0]")
