"""Writes docs/reference.md from the schema (kdsweep/config/) and conf/: `python docs/reference.py`.

Into each card of docs/methods.md it writes what the method's code needs.
"""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from textwrap import wrap
from typing import Any

from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from kdsweep.config import Config
from kdsweep.config.code import import_component
from kdsweep.config.parse import PATTERNS
from kdsweep.methods import taps_of
from kdsweep.networks.zoo.layers import Layers

Schema = Mapping[str, Any]

DOCS = Path(__file__).parent
CONF = DOCS.parent / "conf"
SCHEMA: Schema = Config.model_json_schema()

TOP = """\
# Reference

Every group with its options, every key with what it may be. Generated from the schema and from `conf/` by
`make docs`; a test holds it to be current.

A group is chosen by `group=option` (`student=wrn`), a key changed by `key=value` (`student.model.width=2`).
With `-m` several are swept: `student=mlp,wrn`. `--cfg job` after any arguments shows what they compose to.
`--config-dir my_conf` adds a folder of your own options, laid out as `conf/` is: `my_conf/student/mine.yaml`.
"""

NEEDS = {  # what a term may take beside outputs
    "labels": "one label per image",
    "indices": "indices of the images",
    "train_labels": "all training labels",
    "teacher_outputs": "one pass of the teacher over the training images",
    "teacher_head": "the teacher's head",
    "epoch": "the epoch",
    "generator": "random numbers",
}

INTRODUCTIONS = {
    "dataset": "Which images. Of your own: [your own images](your-own.md).",
    "teacher": "The network that teaches; its `model` has the keys of the [student](#student) of its name.",
    "student": "The network that is taught. [Your own](your-own.md#4-a-student-of-your-own).",
    "method": "The loss, a weighted sum of terms: [methods](methods.md).",
    "method/terms": "Added to any method: `kdsweep method=kd +method/terms=crd`.",
    "chain": "What stands between teacher and student, and who teaches whom: [chains](methods.md#chains).",
    "training": "The student's recipe, and everyone's who says nothing else. Digits have their own.",
    "training/optimizer": "What steps: any callable by import path. [Your own]"
    "(configuration.md#an-optimizer-or-schedule-of-your-own-one-yaml-file).",
    "training/schedule": "Of the learning rate, stepped after each epoch.",
    "hardware": "Where jobs run and how many at a time: [scaling](scaling.md).",
    "search": "Optuna in place of a grid, with `-m`: [search](search.md).",
    "experiment": "Files of differences, each a published experiment: [recipes](recipes.md).",
}


def main() -> None:
    (DOCS / "reference.md").write_text(reference())
    (DOCS / "methods.md").write_text(with_needs((DOCS / "methods.md").read_text()))


def with_needs(page: str) -> str:
    """The page of methods, in whose cards the line of needs is what the code has."""
    with initialize_config_module("kdsweep.conf"):
        return "\n### ".join(map(_with_needs, page.split("\n### ")))


def _with_needs(card: str) -> str:
    """A card, which begins with the name of its method, or the page before the first."""
    method = card.partition("\n")[0].split(",")[0]
    if card.startswith("#"):
        return card
    text, *after = re.split(r"(?=\n## )", card, maxsplit=1)
    line = "\n".join(wrap(f"- **Needs**: {_needs(method)}.", 120, subsequent_indent="  "))
    text = re.sub(r"(?m)^- \*\*Needs\*\*: .*\n(  .*\n)*", "", text)
    return re.sub(r"(?m)^(?=- )", f"{line}\n", text, count=1) + "".join(after)


def _needs(method: str) -> str:
    """What the terms of a method take, beyond the labels of `labels`, and whether they learn or remember."""
    described: dict[str, Any] = composed(f"method={method}")["method"]
    terms: dict[str, Any] = described["terms"]
    own = [term for name, term in terms.items() if name != "labels"] or list(terms.values())
    found: dict[str, None] = {}
    for term in own:
        component = import_component(term["_target_"])
        is_class = inspect.isclass(component)
        takes = set(inspect.signature(component.forward if is_class else component).parameters)
        made_from = set(inspect.signature(component).parameters) if is_class else set()
        found |= dict.fromkeys(_looks_at(term, "teacher" in takes))
        soft = {"labels": "labels (of mixed images too)"} if getattr(component, "soft_labels", False) else {}
        needs = {**NEEDS, **soft}
        found |= {words: None for name, words in needs.items() if name in takes | made_from}
        if getattr(component, "of_whole_batch", False):
            found["the whole batch"] = None
        if is_class:
            found["adapters or memories of its own"] = None
        if "teacher" not in takes:
            found["no teacher"] = None
    if described.get("network"):
        found["a network of both in the student's place"] = None
    return ", ".join(found)


def _looks_at(term: Mapping[str, Any], has_teacher: bool) -> Iterator[str]:
    ours, theirs = (taps_of(term.get("taps"), side) for side in ("student", "teacher"))
    if ours is None:
        yield "standardized logits" if term.get("standardize") else "logits"
    elif ours == theirs or not has_teacher:
        yield _tapped(ours) + (" of both" if has_teacher else "")
    else:
        yield f"the student's {_tapped(ours)}"
        yield f"the teacher's {_tapped(theirs)}"


def _tapped(taps: Any) -> str:
    return " and ".join(f"`{tap}`" for tap in ([taps] if isinstance(taps, str) else taps))


def reference() -> str:
    """The page."""
    with initialize_config_module("kdsweep.conf"):
        own = {key: each for key, each in SCHEMA["properties"].items() if not _members(each)}
        own = {key: each for key, each in own.items() if key != "search"}
        tracking = {f"tracking.{key}": each for key, each in _definition("Tracking")["properties"].items()}
        job = {**own, **tracking}
        parts = [TOP, "## The job", _table(list(_rows(job, composed())))]
        for group, introduction in INTRODUCTIONS.items():
            parts += [f"## {group}", introduction, _options(group), *_keys(group)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


@cache
def composed(*overrides: str) -> dict[str, Any]:
    config: Any = OmegaConf.to_container(compose("config", list(overrides)), resolve=True)
    return dict(config)


def _definition(name: str) -> Schema:
    return SCHEMA["$defs"][name]


def _members(schema: Schema) -> list[str]:
    """The definitions that a key's value may follow: of a section, or of each form of it."""
    references = [schema, *schema.get("oneOf", []), *schema.get("anyOf", [])]
    return [each["$ref"].rpartition("/")[2] for each in references if "$ref" in each]


def _keys(group: str) -> Iterator[str]:
    """A table for the keys that every form of a section has, and one for those of each of its forms."""
    if group == "experiment" or "/" in group:
        return
    schema = SCHEMA["properties"][group]
    names = _members(schema)
    forms = [_definition(name)["properties"] for name in names]
    tag = schema.get("discriminator", {}).get("propertyName")
    tables: dict[tuple[str, ...], dict[str, list[Schema]]] = {}
    every = dict.fromkeys(key for form in forms for key in form)
    for key in sorted(every, key=lambda key: key not in ("name", tag)):
        having = [form for form in forms if key in form]
        tags = [value for form in having for value in _values(form[tag])] if tag else []
        of = () if len(having) == len(forms) else tuple(tags)
        tables.setdefault(of, {})[key] = [form[key] for form in having]
    for of, keys in sorted(tables.items(), key=lambda each: -len(each[0]) if each[0] else -99):
        defaults = composed(f"{group}={of[-1]}") if group == "dataset" and of else composed()
        if group in ("search", "training"):
            defaults = composed("search=optuna", "training=default")
        if of:
            yield f"With `{group}.{tag}` " + ", ".join(f"`{value}`" for value in of) + ":"
        merged = {f"{group}.{key}": _merged(each) for key, each in keys.items()}
        yield _table(list(_rows(merged, defaults)))
    if group == "student":
        yield "Layer by layer, with `model._target_: kdsweep.networks.zoo.layers.Layers`:"
        yield f"```text\n{inspect.getdoc(Layers)}\n```"
        yield "Each of `student.assistants`, and of `chain.assistants`:"
        yield _table(list(_rows(_definition("Assistant")["properties"], {})))
    if group == "method":
        yield "Each of `method.terms`; further keys are options of its function or class:"
        yield _table(list(_rows(_definition("Term")["properties"], {})))


def _merged(schemas: Sequence[Schema]) -> Schema:
    """One for a key that several forms of a section have."""
    first = schemas[0]
    descriptions = "; ".join(dict.fromkeys(each["description"] for each in schemas))
    values = list(dict.fromkeys(value for each in schemas for value in _values(each)))
    enum = {"enum": values} if all(map(_values, schemas)) else {}
    return {**first, **enum, "description": descriptions}


def _values(schema: Schema) -> list[str]:
    return list(schema["enum"]) if "enum" in schema else [schema["const"]] if "const" in schema else []


def _rows(properties: Mapping[str, Schema], defaults: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    for key, schema in properties.items():
        members = _members(schema)
        if members == ["Training"]:  # has a table of its own
            yield f"`{key}.*`", "as `training.*`", "as `training.*`", schema["description"]
        elif members:
            nested = _definition(members[0])["properties"]
            yield from _rows({f"{key}.{each}": value for each, value in nested.items()}, defaults)
        else:
            yield f"`{key}`", _allowed(key, schema), _default(key, schema, defaults), schema["description"]


def _default(key: str, schema: Schema, defaults: Mapping[str, Any]) -> str:
    value: Any = defaults
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return f"`{_written(schema['default'])}`" if "default" in schema else ""
        value = value[part]
    return "" if isinstance(value, dict) else f"`{_written(value)}`"


def _written(value: Any) -> str:
    """A value as a command gives it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_written(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    return (
        {None: "null", True: "true", False: "false"}.get(value, str(value))
        if not _number(value)
        else f"{value:g}"
    )


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _allowed(key: str, schema: Schema) -> str:
    """What a key may be, in words."""
    if "anyOf" in schema:
        return " or ".join(_allowed(key, each) for each in schema["anyOf"])
    if values := _values(schema):
        return ", ".join(f"`{value}`" for value in values)
    match schema.get("type"):
        case "null":
            return "`null`"
        case "boolean":
            return "`true`, `false`"
        case "integer" | "number":
            return ("whole number" if schema["type"] == "integer" else "number") + _bounds(schema)
        case "array" if "prefixItems" in schema:
            return f"`[smallest, largest]`, each a {_allowed(key, schema['prefixItems'][0])}"
        case "array" if "$ref" in schema["items"]:
            return "list of networks"
        case "array":
            return f"list of {_allowed(key, schema['items'])}".replace(
                "list of whole number", "list of whole numbers"
            )
        case "object":
            return "mapping"
    if key.rpartition(".")[2] == "_target_":
        return "import path"
    if "pattern" in schema:
        return ", ".join(f"`{form}`" for form in PATTERNS[key.rpartition(".")[2]].split(", "))
    return "text"


def _bounds(schema: Schema) -> str:
    if {"minimum", "maximum"} <= schema.keys():
        return f" from {schema['minimum']} to {schema['maximum']}"
    bounds = []
    for name, sign in (
        ("minimum", "≥"),
        ("exclusiveMinimum", ">"),
        ("maximum", "≤"),
        ("exclusiveMaximum", "<"),
    ):
        if name in schema:
            bounds.append(f"{sign} {'2³²' if schema[name] == 2**32 else _written(schema[name])}")
    return " " + ", ".join(bounds) if bounds else ""


def _options(group: str) -> str:
    rows = []
    for file in sorted((CONF / group).glob("*.yaml")):
        commands, words = _comments(file)
        shown = "<br>".join(f"`{each}`" for each in commands)
        what = words + (f"; {own}" if (own := _sets(group, file)) else "")
        rows.append((f"[`{file.stem}`](../conf/{group}/{file.name})", what, shown))
    sign = "+" if group == "method/terms" else ""  # one more, where another group has one choice
    return _table(rows, (f"`{sign}{group}=`", "what", "command"))


def _comments(file: Path) -> tuple[list[str], str]:
    """The commands and the words that a file begins with."""
    lines = []
    for line in file.read_text().splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("# "))
    commands = [line for line in lines if line.startswith("kdsweep ")]
    words = " ".join(line for line in lines if line not in commands)
    return commands, re.sub(r"\bdocs/([\w-]+)\.md", r"[\1](\1.md)", words)


def _sets(group: str, file: Path) -> str:
    """The options of a component with their meaning, or what the choice sets."""
    if group == "method/terms":
        return _of_term(composed("method=scratch", f"+{group}={file.stem}")["method"]["terms"][file.stem])
    if group == "student" or "/" in group:  # whose options are a component's own
        text = file.read_text()
        nested = text.partition("\nmodel:\n")[2].replace("\n  ", "\n").removeprefix("  ")
        text = nested if group == "student" else text
        own = re.findall(r"^(\w+): (\S.*?)(?: +# (.*))?$", text, re.MULTILINE)
        told = [
            f"`{key}: {value}`" + (f" ({words})" if words else "")
            for key, value, words in own
            if key not in ("_target_", "defaults")
        ]
        owner = "`model` has" if group == "student" else "options"
        return f"{owner} {', '.join(told)}" if told else ""
    if group == "method":
        terms = composed(f"method={file.stem}")["method"]["terms"]
        return f"terms {', '.join(f'`{name}`' for name in terms)}"
    if group not in ("dataset", "chain", "training", "hardware"):
        return ""
    mine = dict(_flat(composed(f"{group}={file.stem}")[group]))
    form = mine.get("source")  # told of a data set is how it differs from others of its form
    other_form = group == "dataset" and form != file.stem
    base = composed(f"dataset={form}" if other_form else "training=default")
    usual = dict(_flat(base[group]))
    if form == file.stem:
        mine = {key: value for key, value in mine.items() if key in usual}  # the rest is in the tables
    differing = {
        key: value for key, value in mine.items() if usual.get(key) != value and key not in ("name", "source")
    }
    told_here = ", ".join(f"`{key}={_written(value)}`" for key, value in differing.items())
    return f"sets {told_here}" if told_here else ""


def _of_term(term: Mapping[str, Any]) -> str:
    return ", ".join(f"`{key}={_written(value)}`" for key, value in term.items() if key != "_target_")


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _table(rows: Sequence[Sequence[str]], heads: Sequence[str] = ("key", "values", "default", "what")) -> str:
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
