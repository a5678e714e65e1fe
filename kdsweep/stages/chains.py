"""From a config to the stages that its job needs: the chain from teacher to student, and the baseline.

Planning is pure: nothing is trained, loaded or built, and torch is not imported.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

from kdsweep.config import Assistant, Augment, Config, Dataset, Method, Network, Teacher, Training
from kdsweep.config.code import SOURCE, default_options, source_digest, takes
from kdsweep.data.split import UNLABELED
from kdsweep.data.unlabeled import Mix
from kdsweep.errors import ConfigError
from kdsweep.methods import needs_labels
from kdsweep.networks import INIT, STUDENT, TEACHER, has_logits
from kdsweep.stage import Average, Objective, Panel, Stage, derive
from kdsweep.stages.graph import in_order
from kdsweep.stages.teachers import follows_trajectory, marks, refuse_augmented, refuse_terms

# of the baseline, of a teacher without smoothed labels, and of any method that gives the teacher no weight
ALONE: Objective = {
    "labels": {"_target_": "kdsweep.methods.labels.cross_entropy", "weight": 1, "smoothing": 0}
}


@dataclass(frozen=True)
class Plan:
    """The stages of a job by role.

    `chain` leads from the teachers, if any, to the student; `scratch` is the baseline, None if unwanted;
    `ensemble` are those whose averaged outputs are evaluated too. `teachers` has those of each link after
    them, even if alpha = 1 gives them no weight.
    """

    chain: Mapping[str, Stage]
    scratch: Stage | None
    ensemble: Panel | None
    teachers: Mapping[str, Panel]

    def links(self) -> dict[str, Stage]:
        """Role to stage, in the order in which they are trained."""
        return in_order(self.chain, {"scratch": self.scratch} if self.scratch else {})


@dataclass(frozen=True)
class Known:
    """What a plan must know beyond the config: digests of a network's code, if the user wrote it, and of its
    initial weights; the options that it leaves to defaults; its number of parameters, used only to choose
    assistants; whether jobs compute on a GPU, used only if that matters.
    """

    source: Callable[[Network], str | None]
    initial: Callable[[Network], str | None]
    parameters: Callable[[Network], int]
    defaults: Callable[[Network], Mapping[str, Any]]
    on_gpu: Callable[[], bool]
    classes: tuple[str, ...]  # of the data set
    draws_val: bool  # whether val_fraction decides on the validation split: the files have none
    images: int  # for training, before train_limit and before the validation split is drawn
    trained_on: int  # of them
    unlabeled: str | None = None  # the digest of the images without labels, if there are any
    unlabeled_images: int = 0


@dataclass(frozen=True)
class _Step:
    """One step of distillation: the network that learns, and how."""

    role: str
    network: Network
    training: Training
    temperature: float
    alpha: float
    seed: int


def plan(config: Config, fingerprint: str, known: Known) -> Plan:
    """The stages that `config` needs; `fingerprint` identifies the training images.

    Raises ConfigError for an ensemble with members that the chain does not have.
    """
    data = _training_data(config.dataset, fingerprint, known)

    def stage(
        role: str,
        network: Network,
        training: Training,
        objective: Objective,
        seed: int,
        panel: Panel | None = None,
    ) -> Stage:
        parents = tuple(panel.members.values()) if panel else ()
        average = panel.average if panel else Average()
        source, initial = known.source(network), known.initial(network)
        unused = {"pretrained"} if initial else set()
        model, defaults = (
            {key: value for key, value in options.items() if key not in unused}
            for options in (network.model, known.defaults(network))
        )
        if network.init != "own":
            model[INIT] = network.init
        if isinstance(network, Teacher):
            model |= marks(role, network, known.classes)
        if parents and config.method.network:
            model = _joined(config.method.network, {**defaults, **model}, parents[-1])
            source, defaults = source_digest(model), {}
        if training.total_epochs == 0:  # the weights stay as in their file, so no teacher matters
            still = {**data, "augment": Augment().effective()}
            return Stage(still, model, training, ALONE, 0, (), source, initial, defaults, name=network.name)
        learned, most, images = data, known.trained_on, known.trained_on
        if parents and _learns_from_unlabeled(config, objective, training, known):
            mix = Mix(images, known.unlabeled_images, config.dataset.unlabeled_share, training.batch_size)
            learned = {**data, UNLABELED: {"fingerprint": known.unlabeled, "share": mix.share}}
            most, images = mix.largest_batch, mix.images
        training = _effective(training, known, most)
        if not follows_trajectory(config.dataset.augment, objective, parents):
            training = training.model_copy(update={"answers": "float32"})
        made = (learned, model, training, objective, seed, parents, source, initial, defaults, average)
        return Stage(*made, name=network.name, images=images)

    scratch = stage("student", config.student, config.training, ALONE, config.seed)
    if not config.method.has_teacher:
        objective = _objective(config.method, config.temperature, config.alpha)
        student = stage("student", config.student, config.training, objective, config.seed)
        is_baseline = student.key == scratch.key  # or learns from labels in another way
        return Plan({"student": student}, scratch if config.baseline and not is_baseline else None, None, {})

    chain: dict[str, Stage] = {}
    for number, (role, teacher) in enumerate(config.all_teachers.items()):
        labels = {"labels": {**ALONE["labels"], "smoothing": teacher.label_smoothing}}
        made = stage(role, teacher, teacher.training, labels, config.seed)
        if any(made.key == each.key for each in chain.values()):  # the same network again
            made = stage(role, teacher, teacher.training, labels, derive(config.seed, number, "teacher"))
        if any(made.key == each.key for each in chain.values()):
            raise ConfigError(f"{role}: is the same network as an earlier teacher, with the same weights")
        chain[role] = made
    nearest, teachers = list(chain), dict[str, Panel]()
    for step in _steps(config, known):
        taught_by = list(chain) if config.chain.taught_by == "all" else nearest
        panel = Panel({role: chain[role] for role in taught_by}, _average(config, taught_by))
        objective = _objective(config.method, step.temperature, step.alpha)
        taught = _is_taught(objective)
        if taught:
            refuse_terms(config.method, objective, panel)
            refuse_augmented(config.dataset.augment, panel)
        learning = (step.network, step.training, objective, step.seed)
        chain[step.role] = stage(step.role, *learning, panel if taught else None)
        nearest, teachers[step.role] = [step.role], panel
    return Plan(chain, scratch if config.baseline else None, _ensemble(config, chain), teachers)


def _average(config: Config, roles: Sequence[str]) -> Average:
    """How these links teach as one; links that are no teachers of the config have a weight of 1."""
    if len(roles) == 1:
        return Average()
    given = [config.all_teachers[role].weight if role in config.all_teachers else 1.0 for role in roles]
    equal = len(set(given)) == 1
    return Average(config.chain.average, () if equal else tuple(each / sum(given) for each in given))


def _joined(network: Mapping[str, Any], student: Mapping[str, Any], teacher: Stage) -> dict[str, Any]:
    """The description of a method's own network, made of those of a student and its nearest teacher."""
    pretrained = {key: value for key, value in student.items() if key == "pretrained"}
    parts = {STUDENT: dict(student), TEACHER: teacher.describe()["model"], **pretrained}
    return {**default_options({**network, **parts}), **network, **parts, "_recursive_": False}


def _steps(config: Config, known: Known) -> Iterator[_Step]:
    """The links after the teacher, the student last."""
    own = (config.temperature, config.alpha)
    if config.chain.between == "generations":
        for i in range(1, config.chain_length + 1):
            role = "student" if i == config.chain_length else f"generation{i}"
            yield _Step(role, config.student, config.training, *own, _seed(config.seed, i))
        return
    for i, assistant in enumerate(_assistants(config, known), start=1):
        temperature = own[0] if assistant.temperature is None else assistant.temperature
        alpha = own[1] if assistant.alpha is None else assistant.alpha
        yield _Step(f"assistant{i}", assistant, assistant.training, temperature, alpha, config.seed)
    yield _Step("student", config.student, config.training, *own, config.seed)


def _seed(seed: int, generation: int) -> int:
    """A generation's own seed, so that its initial weights differ from its teacher's."""
    return derive(seed, generation, "generation")


def _assistants(config: Config, known: Known) -> Sequence[Assistant]:
    """The assistants that the chain takes of those listed, from large to small."""
    listed, wanted = config.assistants, config.chain_length - 1
    if wanted in (0, len(listed)):
        return listed[:wanted]
    sizes = [known.parameters(network) for network in (config.teacher, *listed, config.student)]
    return [listed[i] for i in evenly_spaced(sizes, wanted)]


def evenly_spaced(sizes: Sequence[int], count: int) -> tuple[int, ...]:
    """Which `count` of the inner `sizes` make the steps from the first to the last most even in log size.

    The steps' sum is fixed, so the most even ones have the least sum of squares.
    """
    first, *inner, last = map(log, sizes)

    def unevenness(chosen: tuple[int, ...]) -> float:
        path = [first, *(inner[i] for i in chosen), last]
        return sum((a - b) ** 2 for a, b in itertools.pairwise(path))

    return min(itertools.combinations(range(len(inner)), count), key=unevenness)


def _objective(method: Method, temperature: float, alpha: float) -> Objective:
    """The terms that have weight; a term of the user's own has the digest of its code.

    Raises ConfigError if no term has weight.
    """
    terms = {}
    for name, term in method.terms.items():
        description = term.describe(temperature, alpha)
        if description["weight"]:
            terms[name] = _described(description)
    if not terms:
        raise ConfigError(f"method={method.name}: no term has weight, so there is nothing to learn from")
    return terms


def _is_taught(objective: Objective) -> bool:
    return any("teacher" in takes(term["_target_"]) for term in objective.values())


def _ensemble(config: Config, chain: Mapping[str, Stage]) -> Panel | None:
    """The links whose averaged outputs are evaluated, in the order of the chain, None if there are fewer than
    two: those of `chain.ensemble`, by default all teachers, as they teach."""
    shape, first = config.chain, list(config.all_teachers)
    if not shape.ensemble:
        return _evaluated({role: chain[role] for role in first}, _average(config, first))
    words = {"teacher": first, "generations": [role for role in chain if role not in first]}
    words |= {role: [role] for role in chain if role not in words}
    if shape.between == "generations":
        words[f"generation{len(chain) - len(first)}"] = ["student"]
    unknown = [member for member in shape.ensemble if member not in words]
    if unknown:
        raise ConfigError(f"chain.ensemble={unknown[0]}: no such link; allowed: {', '.join(words)}")
    chosen = {role for member in shape.ensemble for role in words[member]}
    return _evaluated({role: stage for role, stage in chain.items() if role in chosen}, Average())


def _evaluated(members: Mapping[str, Stage], average: Average) -> Panel | None:
    whole = all(has_logits(stage.model) for stage in members.values())
    return Panel(members, average) if whole and len(members) > 1 else None


def _learns_from_unlabeled(config: Config, objective: Objective, training: Training, known: Known) -> bool:
    """Whether a taught stage has a term for the images without labels.

    Raises ConfigError if a batch has no labelled image for a term that needs labels, or no room for both.
    """
    if known.unlabeled is None:
        return False
    share = config.dataset.unlabeled_share
    for_labeled = [name for name, term in objective.items() if needs_labels(takes(term["_target_"]))]
    if share == 1 and for_labeled:
        name = for_labeled[0]
        weight = "alpha" if config.method.terms[name].weight == "alpha" else f"method.terms.{name}.weight"
        raise ConfigError(
            f"dataset.unlabeled_share=1: a batch has no labelled image for method.terms.{name}, which needs "
            f"labels; leave it out ({weight}=0), or take a smaller share"
        )
    learns = len(for_labeled) < len(objective)
    if learns and share is not None and share < 1 and training.batch_size == 1:
        raise ConfigError(
            f"dataset.unlabeled_share={share}: a batch of training.batch_size=1 has no room for both kinds "
            "of images; allowed: batches of 2 or more, or a share of null or 1"
        )
    return learns


def _effective(training: Training, known: Known, most: int) -> Training:
    """The recipe as it takes effect: no batch has more than `most` images, only a GPU uses bfloat16."""
    mixed = training.mixed_precision and known.on_gpu()
    size = min(training.batch_size, most)
    parts = {"optimizer": _described(training.optimizer), "schedule": _described(training.schedule)}
    return training.model_copy(update={"batch_size": size, "mixed_precision": mixed, **parts})


def _described(component: Mapping[str, Any]) -> dict[str, Any]:
    """The component with its default options and, if the user wrote it, the digest of its code."""
    source = source_digest(component)
    return {**default_options(component), **component, **({SOURCE: source} if source else {})}


def _training_data(dataset: Dataset, fingerprint: str, known: Known) -> dict[str, Any]:
    """What of the data set shapes the weights: neither its path nor the test images."""
    drawn = {"val_fraction"} if known.draws_val else set()
    if known.draws_val and dataset.val_fraction:
        drawn.add("split_seed")
    used = dataset.model_dump(include={"train_limit", "normalize"} | drawn)
    if dataset.train_limit is not None and dataset.train_limit >= known.images:
        used["train_limit"] = None
    return {"fingerprint": fingerprint, **used, "augment": dataset.augment.effective()}
