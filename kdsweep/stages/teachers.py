"""Teachers that are not simply networks with a head for the data set's classes."""

from collections.abc import Mapping, Sequence
from typing import Any

from kdsweep.config import OUTPUTS, Augment, Method, Network, Teacher, is_file
from kdsweep.config.code import takes
from kdsweep.errors import ConfigError
from kdsweep.methods import EMBEDDING, LOGITS, all_taps, taps_of
from kdsweep.networks import CLASSES, GIVES, has_logits
from kdsweep.stage import TERMS, Objective, Panel, Stage


def marks(key: str, teacher: Teacher, classes: Sequence[str]) -> dict[str, Any]:
    """What the description of a teacher's network says beside its model: what it gives, of which classes.

    Raises ConfigError if a class of the data set has none of its outputs.
    """
    found: dict[str, Any] = {} if teacher.gives == "logits" else {GIVES: teacher.gives}
    named = teacher.classes
    if named is None or named == tuple(classes):
        return found
    if isinstance(named, dict):
        outputs, of = teacher.num_classes or 0, {name: list(members) for name, members in named.items()}
        if unknown := [name for name in of if name not in classes]:
            raise ConfigError(f"{key}.classes: {unknown[0]}: no such class; allowed: {', '.join(classes)}")
        for name, members in of.items():
            if not members or max(members) >= outputs:
                shown = f"output {max(members)}" if members else "no output"
                raise ConfigError(f"{key}.classes.{name}: names {shown}; allowed: 0 to {outputs - 1}")
    else:
        outputs, of = len(named), {}
        for number, name in enumerate(named):
            of.setdefault(name, []).append(number)
    if missing := [name for name in classes if name not in of]:
        raise ConfigError(
            f"{key}.classes: has no output for {', '.join(missing[:5])}; every class of the data set needs "
            "one"
        )
    return {**found, CLASSES: {"outputs": outputs, "of": [of[name] for name in classes]}}


def expected_classes(network: Network, classes: Sequence[str]) -> Sequence[str] | None:
    """The classes for which the weights of a network must have been trained; None if any will do."""
    if is_file(network.model):
        return None
    if not isinstance(network, Teacher):
        return classes
    if network.gives == "embedding" or isinstance(network.classes, dict):
        return None
    return network.classes or classes


def mapping_key(network: Network, teachers: Mapping[str, Teacher]) -> str | None:
    """The key that maps the outputs of a network to classes; None if it is trained for the data set's."""
    untrained = (
        role for role, each in teachers.items() if each is network and not each.training.total_epochs
    )
    return next((f"{role}.classes" for role in untrained), None)


def follows_trajectory(augment: Augment, objective: Objective, teachers: Sequence[Stage]) -> bool:
    """Whether networks among the teachers are asked about images that change at random, and for no more than
    can be kept: logits and embeddings, but not maps."""
    asked = any(stage.model["_target_"] != OUTPUTS for stage in teachers)
    return augment.random and asked and set(all_taps(objective, "teacher")) <= {EMBEDDING}


def refuse_augmented(augment: Augment, panel: Panel) -> None:
    """Raise ConfigError if images change at random that a file of outputs saw unchanged."""
    for role, stage in panel.members.items():
        if augment.random and stage.model["_target_"] == OUTPUTS and stage.model["augmented"] != "same":
            raise ConfigError(
                f"{role}={stage.name}: saw the images unchanged, and dataset.augment changes them at random; "
                f"leave that out, or set {role}.model.augmented=same to teach what it said of the originals"
            )


def refuse_terms(method: Method, objective: Objective, panel: Panel) -> None:
    """Raise ConfigError for a term that asks its teachers for what they do not have."""
    headless = next((role for role, stage in panel.members.items() if not has_logits(stage.model)), None)
    several = len(panel.members) > 1
    if several and method.network:
        raise ConfigError(f"method={method.name}: takes the head of one teacher, and there are several")
    if method.network and (role := next((r for r, s in panel.members.items() if _is_mapped(s.model)), None)):
        raise ConfigError(f"method={method.name}: takes the head of {role}, whose outputs are mapped")
    for name, term in objective.items():
        taken = takes(term["_target_"])
        if "teacher" not in taken:
            continue
        taps = taps_of(term.get("taps"), "teacher")
        of_logits = taps is None or LOGITS in ([taps] if isinstance(taps, str) else taps)
        if headless and (of_logits or "teacher_head" in taken):
            what = "head" if "teacher_head" in taken else "logits"
            raise ConfigError(
                f"method.terms.{name}: takes the teacher's {what}, and {headless} gives embeddings; take a "
                "method of embeddings or maps, such as feature_cosine, rkd or at"
            )
        if "teacher_head" in taken and (
            role := next((r for r, s in panel.members.items() if _is_mapped(s.model)), None)
        ):
            raise ConfigError(f"method.terms.{name}: takes the head of {role}, whose outputs are mapped")
        if several and panel.average.of != TERMS and (taps is not None or "teacher_head" in taken):
            raise ConfigError(
                f"chain.average={panel.average.of}: averages logits, and method.terms.{name} looks at "
                f"{taps}; set chain.average=terms"
            )


def _is_mapped(model: Mapping[str, Any]) -> bool:
    return GIVES in model or CLASSES in model
