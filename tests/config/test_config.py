"""Composition and schema: every option of every group, and every mistake told at once."""

import shlex

import pytest
from helpers import CONF, composed, literal, mistakes, one_of

from kdsweep.config import APART, OF_SWEEP, Config, FineTuning, Section, Training
from kdsweep.config.parse import parse

OPTIONS = sorted(
    f"{file.parent.relative_to(CONF)}={file.stem}" for file in CONF.rglob("*.yaml") if file.parent != CONF
)
MORE = "method/terms="  # of which a job has several


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_every_group_composes_and_is_accepted(option):
    needed = {
        "training/schedule=multistep": ["training.schedule.milestones=[15,25]"],
        "teacher=exported": ["teacher.weights=teacher.onnx"],
        "teacher=outputs": ["teacher.weights=teacher.npz"],
    }
    more = ["method=scratch", f"+{option}"] if option.startswith(MORE) else [option]
    parse(composed(*more, *needed.get(option, [])))


@pytest.mark.parametrize("file", sorted(CONF.rglob("*.yaml")), ids=str)
def test_every_file_begins_with_a_command_that_composes(file):
    lines = [line for line in file.read_text().splitlines() if not line.startswith("# @package")]
    assert lines[0].startswith("# kdsweep"), f"{file} must begin with the command that uses it"
    words = shlex.split(lines[0].removeprefix("# kdsweep").split("   ")[0])
    parse(composed(*(one_of(word) for word in words if word != "-m")))


def test_a_teachers_recipe_is_the_students_but_for_what_is_given():
    given = ("training.epochs=7", "training.batch_size=32", "teacher.training.epochs=9")
    config = parse(composed("dataset=mnist", *given))
    assert (config.training.epochs, config.teacher.training.epochs) == (7, 9)
    assert config.teacher.training.batch_size == 32
    assert config.teacher.training.model_copy(update={"epochs": 7}) == config.training


@pytest.mark.parametrize(
    ("overrides", "epochs", "rate", "teachers"),
    [
        ([], 60, 0.01, 0.001),
        (["teacher=wrn", "student=wrn"], 60, 0.01, 0.001),
        (["training.epochs=7", "teacher.training.learning_rate=0.2"], 7, 0.01, 0.2),
        (["training=default"], 30, 0.001, 0.001),
        (["teacher/training=same"], 60, 0.01, 0.01),
        (["training=sgd"], 240, 0.05, 0.001),
        (["dataset=mnist", "training=sgd"], 240, 0.05, 0.05),
        (["dataset=mnist"], 30, 0.001, 0.001),
        (["dataset=image_folder", "teacher=wrn", "student=small_cnn"], 30, 0.001, 0.001),
        (["experiment=mnist_kd"], 12, 0.001, 0.001),
    ],
)
def test_digits_bring_recipes_that_no_other_data_set_has(overrides, epochs, rate, teachers):
    config = parse(composed(*overrides))
    assert (config.training.epochs, config.training.learning_rate) == (epochs, rate)
    teacher = config.teacher.training
    assert (teacher.epochs, teacher.learning_rate) == (epochs, teachers)
    if rate == teachers:
        assert teacher == config.training
    else:
        own = parse(composed("training/optimizer=adam", "training/schedule=constant")).training
        assert (teacher.optimizer, teacher.schedule) == (own.optimizer, own.schedule)


def test_a_teachers_optimizer_replaces_the_students_or_changes_it():
    def optimizers(*overrides: str) -> list[dict[str, object]]:
        config = parse(composed("dataset=mnist", "training/optimizer=sgd", *overrides))
        return [config.training.optimizer, config.teacher.training.optimizer]

    student, teacher = optimizers()
    assert teacher == student
    student, teacher = optimizers("training/optimizer@teacher.training.optimizer=adam")
    assert set(teacher) - set(student) == {"betas", "eps", "amsgrad"} and "momentum" not in teacher
    student, teacher = optimizers("+teacher.training.optimizer.momentum=0.5")
    assert teacher == student | {"momentum": 0.5}
    student, teacher = optimizers("teacher.training.optimizer={_target_:my.Own}")
    assert teacher == {"_target_": "my.Own"}


def test_a_teacher_may_be_without_the_students_patience():
    config = parse(composed("training.patience=3", "teacher.training.patience=null"))
    assert (config.training.patience, config.teacher.training.patience) == (3, None)
    config = parse(composed("training.patience=3", "teacher.training.patience=same"))
    assert config.teacher.training.patience == 3


def test_every_key_of_a_recipe_can_be_given_for_a_teacher():
    def names(section: type[Section]) -> set[str]:
        return set(section.model_fields)

    teachers = composed("teacher/training=same").teacher.training
    assert (set(teachers), set(teachers.fine_tuning)) == (names(Training), names(FineTuning))


KEYS = {field.alias or name for name, field in Config.model_fields.items()}


def test_all_mistakes_are_told_together():
    assert mistakes(
        "temperature=-1", "alpha=1.5", "training.epochs=-1", "dataset.val_fraction=2", "+new=1"
    ) == [
        "temperature=-1: must be greater than 0",
        "alpha=1.5: must be less than or equal to 1",
        "dataset.val_fraction=2: must be less than 1",
        "training.epochs=-1: must be greater than or equal to 0",
        "new: no such key; allowed: " + ", ".join(sorted(KEYS - {"search"})),
    ]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("temperature=hot", "temperature=hot: must be a number"),
        ("temperature=0", "temperature=0: must be greater than 0"),
        ("alpha=nan", "alpha=NaN: must be a finite number"),
        ("alpha=true", "alpha=true: must be a number"),
        ("seed=1.5", "seed=1.5: must be a whole number"),
        ("seed=-1", "seed=-1: must be greater than or equal to 0"),
        ("chain_length=0", "chain_length=0: must be greater than or equal to 1"),
        (
            "objective=test/accuracy",
            "objective=test/accuracy: allowed: val/accuracy, val/cross_entropy, or a list of these and "
            "cost/parameters, cost/flops, cost/latency_ms, cost/bytes",
        ),
        (
            "objective=train/loss",
            "objective=train/loss: allowed: val/accuracy, val/cross_entropy, or a list of these and "
            "cost/parameters, cost/flops, cost/latency_ms, cost/bytes",
        ),
        (
            "training.monitor=loss",
            "training.monitor=loss: allowed: val/accuracy, val/cross_entropy, train/loss",
        ),
        ("chain.between=dense", "chain.between=dense: allowed: nothing, assistants, generations"),
        ("+chain.betwen=nothing", "chain.betwen: no such key; did you mean chain.between?"),
        (
            "method.terms.kd.weight=heavy",
            "method.terms.kd.weight=heavy: must be a number, or one of temperature, alpha, 1 - alpha",
        ),
        ("method.terms.kd.temperature=inf", "method.terms: kd.temperature must be finite"),
        (
            "+method.terms.kd.taps=[]",
            "method.terms.kd.taps=[]: must name a tap, such as embedding, map or stage2, or "
            "{student: …, teacher: …}",
        ),
        ("+training.epoch=1", "training.epoch: no such key; did you mean training.epochs?"),
        ("hardware.device=tpu", "hardware.device=tpu: allowed: auto, cpu, cuda, cuda:N"),
        ("+hardware.jobs=0", "hardware.jobs=0: must be 1 or more, or -1 for as many as fit"),
        (
            "dataset.source=imagenet",
            "dataset.source=imagenet: allowed: digits, mnist, fashion_mnist, cifar10, cifar100, "
            "image_folder, image_csv",
        ),
        ("dataset.augment.zoom=[1.5,0.5]", "dataset.augment.zoom=[1.5, 0.5]: must be [smallest, largest]"),
        (
            "dataset.augment.resized_crop=[0.5,0.2]",
            "dataset.augment.resized_crop=[0.5, 0.2]: must be [smallest, largest]",
        ),
        (
            "dataset.augment.resized_crop=[0.5,2]",
            "dataset.augment.resized_crop.1=2: must be less than or equal to 1",
        ),
        (
            "dataset.augment.rand_augment.magnitude=31",
            "dataset.augment.rand_augment.magnitude=31: must be less than or equal to 30",
        ),
        (
            "dataset.augment.rand_augment.num_ops=-1",
            "dataset.augment.rand_augment.num_ops=-1: must be greater than or equal to 0",
        ),
        ("dataset.augment.trivial_augment=1", "dataset.augment.trivial_augment=1: must be true or false"),
        (
            "dataset.augment.random_erasing=1.5",
            "dataset.augment.random_erasing=1.5: must be less than or equal to 1",
        ),
        ("dataset.augment.mixup=-1", "dataset.augment.mixup=-1: must be greater than or equal to 0"),
        (
            "dataset.augment.cutmix=1e-9",
            "dataset.augment.cutmix=1e-09: must be 0, for none, or from 0.001 to 1000; usual are 0.2 to 1",
        ),
        ("training.ema=1", "training.ema=1: must be less than 1"),
        ("training.ema=0", "training.ema=0: must be greater than 0"),
        ("training.clip_norm=0", "training.clip_norm=0: must be greater than 0"),
        ("training.sampling=weighted", "training.sampling=weighted: allowed: shuffled, balanced"),
        ("training.answers=bfloat16", "training.answers=bfloat16: allowed: float32, float16"),
        ("answers_gb=-1", "answers_gb=-1: must be greater than or equal to 0"),
        ("teacher.label_smoothing=1", "teacher.label_smoothing=1: must be less than 1"),
        (
            "training.trainable=tail",
            "training.trainable=tail: allowed: all, head, or a number N of last layers",
        ),
        ("training.trainable=0", "training.trainable=0: allowed: all, head, or a number N of last layers"),
        (
            "training.epochs=0",
            "training.epochs=0: must be 1 or more, or student.weights must be given",
        ),
        (
            "student.model._target_=Net",
            "student.model: needs _target_, an import path such as my_networks.Small",
        ),
        (
            "training/schedule=multistep",
            "training.schedule.milestones is missing (???): give training.schedule.milestones=…",
        ),
        (
            "training.optimizer=sgd",
            "training.optimizer=sgd: must be a mapping; a file is chosen with a slash, such as "
            "training/optimizer=sgd",
        ),
        ("+training.optimizer.lr=1", "training.optimizer: its lr is given by learning_rate; leave it out"),
        (
            "training.optimizer._target_=Adam",
            "training.optimizer: needs _target_, an import path such as torch.optim.SGD",
        ),
        (
            "training.optimizer.eps=nan",
            "training.optimizer: its eps must be finite; a word is quoted: '\"nan\"'",
        ),
        ("teacher.training.epochs=some", "teacher.training.epochs=some: must be a whole number"),
        ("training.epochs=same", "training.epochs=same: must be a whole number"),
        ("store=null", "store=null: must be a string"),
        ("student.name=???", "student.name is missing (???): give student.name=…"),
    ],
)
def test_a_mistake_is_one_line_with_key_value_and_what_is_allowed(override, line):
    assert mistakes(override) == [line]


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["chain_length=2"],
            "chain_length=2: chain=direct has no networks in between; allowed: 1, or chain=assistants (as "
            "method=takd), dense (dgkd) or generations (ban)",
        ),
        (
            ["experiment=mnist_takd", "chain_length=3"],
            "chain_length=3: needs 2 assistants, and 1 are listed, from large to small, in "
            "student.assistants or chain.assistants",
        ),
        (
            ["method=simkd", "training.fine_tuning.epochs=1", "training.fine_tuning.trainable=2"],
            "training.fine_tuning.trainable=2: must be all with method=simkd, whose network ends in its "
            "teacher's head",
        ),
        (
            ["teacher=timm", "dataset.normalize=standard"],
            "dataset.normalize=standard: must be unit, teacher=tf_efficientnet_lite0 has its own",
        ),
        (
            ["method=takd", "student.assistants=[{name:a,model:{_target_:a.B},training:{epochs:0}}]"],
            "student.assistants.0.training.epochs=0: must be 1 or more, or student.assistants.0.weights must "
            "be given",
        ),
        (
            ["method=takd", "student.assistants=[{name:a,model:{_target_:a.B},training:{epoch:3}}]"],
            "student.assistants.0.training.epoch: no such key; did you mean "
            "student.assistants.0.training.epochs?",
        ),
    ],
)
def test_a_mistake_of_several_keys_is_one_line_too(overrides, line):
    assert mistakes(*overrides) == [line]


def test_an_assistants_recipe_says_what_differs_from_the_students():
    own = {
        "name": "own",
        "model": {"_target_": "a.B"},
        "training": {"epochs": 3, "fine_tuning": {"epochs": 2}},
    }
    config = parse(composed("method=takd", "chain_length=2", f"student.assistants={literal([own])}"))
    (assistant,) = config.assistants
    tuned = config.training.fine_tuning.model_copy(update={"epochs": 2})
    assert assistant.training == config.training.model_copy(update={"epochs": 3, "fine_tuning": tuned})


def test_a_method_may_bring_its_own_assistants():
    own = {"name": "own", "model": {"_target_": "kdsweep.networks.zoo.mlp.MLP", "hidden": [8]}}
    config = parse(composed("experiment=mnist_takd", f"chain.assistants={literal([own])}"))
    assert [network.name for network in config.assistants] == ["own"]


def test_threads_are_shared_between_jobs():
    cores = parse(composed()).hardware.cpu_threads
    assert parse(composed("hardware=cpu_parallel")).hardware.cpu_threads == 1
    assert parse(composed("hardware=cpu_parallel", "hardware.jobs=2")).hardware.cpu_threads == max(
        1, cores // 2
    )
    assert parse(composed("hardware.threads=3")).hardware.cpu_threads == 3


def test_fields_that_shape_no_job_are_marked():
    assert Config.marked(APART) == [
        "store", "store_budget", "answers_gb", "plan", "debug", "register", "tracking", "hardware", "search",
    ]  # fmt: skip
    assert Config.marked(OF_SWEEP) == ["objective", "baseline", "confirm", "tune", "dataset.root"]
