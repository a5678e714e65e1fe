"""The model card, which describes an export. Its head is the YAML that model hubs read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from kdsweep.export.chosen import Chosen
from kdsweep.results.names import TEACHER, kind_of

FIGURES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "roc_auc": "ROC AUC",
    "cross_entropy": "cross-entropy",
    "calibration_error": "calibration error",
}
FILL_IN = "<!-- fill in -->"


def card(chosen: Chosen, usage: Sequence[str], checks: Sequence[str], versions: Mapping[str, str]) -> str:
    """The text of README.md, from examples of use in Markdown, what the export measured, and its packages."""
    head = OmegaConf.to_yaml(OmegaConf.create(_front_matter(chosen)))
    return f"---\n{head}---\n\n" + "\n".join(_body(chosen, usage, checks, versions)) + "\n"


def _front_matter(chosen: Chosen) -> dict[str, Any]:
    network, data = chosen.network, chosen.result.dataset
    figures = dict(network.test.numbers())
    metrics = [
        {"type": name, "name": shown, "value": round(figures[name], 6)}
        for name, shown in FIGURES.items()
        if name in figures
    ]
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"type": data["name"], "name": data["name"], "split": "test"},
        "metrics": metrics,
    }
    return {
        "license": "other",
        "license_name": "to be filled in",
        "license_link": "to be filled in",
        "library_name": "kdsweep",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "knowledge-distillation", "kdsweep"],
        "datasets": [data["name"]],
        "metrics": ["accuracy"],
        "model-index": [{"name": f"{network.name} on {data['name']}", "results": [result]}],
    }


def _body(
    chosen: Chosen, usage: Sequence[str], checks: Sequence[str], versions: Mapping[str, str]
) -> Iterator[str]:
    result, network, data = chosen.result, chosen.network, chosen.result.dataset
    channels, height, width = data["shape"]
    yield f"# {network.name} on {data['name']}\n"
    size = f"{height} × {width} with {channels} channel{'s' if channels > 1 else ''}"
    yield f"{_origin(chosen)} It takes images of {size} and gives {len(data['classes'])} classes.\n"
    yield "## Use\n"
    yield from usage
    yield "## Intended use\n"
    yield f"- For: {FILL_IN}\n- Not for: {FILL_IN}\n- Known weaknesses, and for whom: {FILL_IN}\n"
    yield "## Licence\n"
    yield f"- Of the weights: {FILL_IN}\n- Of the training images: {FILL_IN}\n- Of the teacher: {FILL_IN}\n"
    yield "## Data\n"
    images = ", ".join(f"{count:,} {split}" for split, count in data["images"].items())
    yield f"{data['name']}: {images} images; fingerprint `{data['fingerprint']}`."
    yield f"Classes: {', '.join(data['classes'])}.\n"
    yield "## Figures\n"
    yield from _figures(chosen)
    yield "## Cost\n"
    yield from _cost(chosen)
    yield "## Recipe\n"
    named = {**result.recipe, **result.swept, "seed": result.seed}
    yield from _table(["", ""], [[name, str(value)] for name, value in named.items()])
    for title, options in (("Objective", network.objective), ("Training", network.training)):
        if options:
            yield f"{title}: {', '.join(f'{name} {_written(value)}' for name, value in options.items())}.\n"
    if network.val:
        yield f"The best of {len(network.history)} epochs was {network.best_epoch}.\n"
    else:
        yield f"The weights are those of epoch {network.best_epoch} of {len(network.history)}.\n"
    yield f"Network: `{network.model}`.\n"
    if chosen.sweep.command:
        yield f"Command, begun {chosen.sweep.began}:\n\n```\n{chosen.sweep.command}\n```\n"
    yield f"MLflow run: {result.run_id or 'none'}; content key of the weights: `{network.key}`.\n"
    yield "## Export\n"
    yield from (f"- {each}" for each in checks)
    trained = ", ".join(f"{name} {each}" for name, each in chosen.sweep.versions.items())
    yield f"- trained with {trained or 'versions that the job did not record'}"
    yield "- exported with " + ", ".join(f"{name} {each}" for name, each in versions.items())


def _written(value: Any) -> str:
    """A value of a recipe as text; a component looks like a call."""
    if not isinstance(value, Mapping) or "_target_" not in value:
        return str(value)
    options = ", ".join(f"{name}={each}" for name, each in value.items() if not name.startswith("_"))
    return f"{value['_target_']}({options})"


def _origin(chosen: Chosen) -> str:
    """A sentence that says how the network was trained."""
    result, method = chosen.result, chosen.result.recipe["method"]
    if chosen.role != "student" or not result.taught:
        return f"An image classifier, trained by kdsweep as {chosen.role}."
    teachers = [network for role, network in result.networks.items() if kind_of(role) == TEACHER]
    accuracies = " and ".join(f"{teacher.test.accuracy:.2%}" for teacher in teachers)
    known = f" (test accuracy {accuracies})" if teachers else ""
    between = len(result.between)
    chain = f" through {between} network{'s' if between > 1 else ''} in between" if between > 0 else ""
    return f"An image classifier, distilled ({method}) from {result.recipe[TEACHER]}{known}{chain}."


def _figures(chosen: Chosen) -> Iterator[str]:
    """The network's figures beside those of its teacher and baseline."""
    roles = list(dict.fromkeys([chosen.role, "teacher", "scratch"]))
    roles = [role for role in roles if role in chosen.result.networks]
    rows = []
    for name, shown in FIGURES.items():
        figures = [chosen.result.test(role, name) for role in roles]
        rows.append([f"test {shown}", *("" if each is None else f"{each:.4f}" for each in figures)])
    vals = [val for role in roles if (val := chosen.result.networks[role].val)]
    for name in ("accuracy", "cross_entropy") if vals else ():
        rows.append([f"validation {FIGURES[name]}", *(f"{getattr(val, name):.4f}" for val in vals)])
    heads = ["baseline" if role == "scratch" else role for role in roles]
    yield from _table(["", *heads], rows)
    if vals:
        yield "Only the validation split chose epochs and recipes; the test split gives these figures.\n"
    else:
        yield "No image was held back for validation, so nothing was selected.\n"


def _cost(chosen: Chosen) -> Iterator[str]:
    roles = [role for role in dict.fromkeys([chosen.role, "teacher"]) if role in chosen.result.networks]
    costs = [chosen.result.networks[role].cost for role in roles]
    rows = [
        ["parameters", *("–" if cost.parameters is None else f"{cost.parameters:,}" for cost in costs)],
        ["MFLOPs of an image", *("–" if cost.flops is None else f"{cost.flops / 1e6:.2f}" for cost in costs)],
        ["weights, MB", *("–" if cost.bytes is None else f"{cost.bytes / 1e6:.2f}" for cost in costs)],
    ]
    measured = [f"{cost.latency_ms:.2f}" for cost in costs if cost.latency_ms is not None]
    if len(measured) == len(costs):  # a busy machine measures no latency
        where = chosen.sweep.latency.machine if chosen.sweep.latency else "CPU"
        rows.append([f"latency in PyTorch, one thread of {where}, ms", *measured])
    yield from _table(["", *roles], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield "| " + " | ".join(each.replace("|", "\\|") for each in row) + " |"
    yield ""


def usage_of(kinds: Sequence[str], own_code: bool) -> list[str]:
    """Examples of use in the exported folder, for its formats."""
    examples = []
    if "onnx" in kinds:
        examples.append("```\nkdsweep-predict . IMAGE…\n```\n")
    opened = {
        "safetensors": 'from kdsweep.export.folder import load\n\nnetwork = load(".")',
        "torch-export": 'import torch\n\nnetwork = torch.export.load("model.pt2").module()',
        "torchscript": 'import torch\n\nnetwork = torch.jit.load("model.torchscript.pt")',
    }
    for kind, text in opened.items():
        if kind in kinds:
            examples.append(f"```python\n{text}  # logits [B, classes] of inputs [B, C, H, W]\n```\n")
    examples.append("`preprocessing.json` describes how an image becomes an input, and names the classes.\n")
    if own_code and "safetensors" in kinds:
        examples.append("The network's own code is in `code/`, where `load` imports it.\n")
    return examples
