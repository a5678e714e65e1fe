"""The outputs of a search: its best trials as experiment files, and Optuna's pictures."""

import logging
import shlex
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import matplotlib.ticker
from omegaconf import DictConfig, OmegaConf
from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from kdsweep.errors import without_passwords
from kdsweep.report.charts.figures import MOST_LINES
from kdsweep.results.result import OPTIMUM, JobResult
from kdsweep.sweeps.search.best import experiment_file
from kdsweep.sweeps.search.trials import Search, counted
from kdsweep.system.terminal import relative

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER = "search"  # in that of the sweep
Compose = Callable[[FrozenTrial], DictConfig]


def standing(study: Study, search: Search) -> str:
    """The progress of the search in a few words."""
    states = Counter(trial.state for trial in counted(study))
    names = {
        TrialState.COMPLETE: "finished",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
        TrialState.RUNNING: "running elsewhere",
    }
    parts = [f"{states[state]} {name}" for state, name in names.items() if states[state]]
    total = states.total()
    of = f"{total} of {search.n_trials} trials"
    if total > search.n_trials:
        of = f"{total} trials, {search.n_trials} were wanted"
    return of + (f": {', '.join(parts)}" if parts else "")


def write_report(study: Study, search: Search, objectives: Sequence[str], composed: Compose) -> None:
    """Print the best trials; write experiment files, Hydra's optimization_results.yaml and pictures."""
    print(f"\nstudy {search.study} in {without_passwords(search.storage)}: {standing(study, search)}")
    finished = [trial for trial in counted(study) if trial.state == TrialState.COMPLETE]
    if not finished:
        return
    sweep = Path(search.sweep)
    if len(objectives) > 1:
        best = study.best_trials
    else:
        best = [best_trial(study, finished, JobResult.load_all(sweep))]
    best.sort(key=lambda trial: trial.values, reverse=True)
    _write_results(best, sweep / OPTIMUM)
    for trial in best:
        name = "best" if len(best) == 1 else f"pareto_{trial.number}"
        command = shlex.join(["kdsweep", "--config-dir", relative(sweep), f"experiment={name}"])
        figures = ", ".join(
            f"{objective} {value:.6g}" for objective, value in zip(objectives, trial.values, strict=True)
        )
        params = "  ".join(f"{key}={_short(value)}" for key, value in trial.params.items())
        print(f"  {'best' if name == 'best' else 'not beaten'}: trial {trial.number}, {figures}: {params}")
        print(f"    {command}")
        file = sweep / "experiment" / f"{name}.yaml"
        file.parent.mkdir(exist_ok=True)
        head = f"# {command}\n# Trial {trial.number} of the study {search.study}: {figures}"
        file.write_text(experiment_file(composed(trial), head), "utf-8")
    if len(finished) > 1:
        (sweep / FOLDER).mkdir(exist_ok=True)
        _draw(study, objectives, sweep / FOLDER, finished)


def best_trial(study: Study, finished: Sequence[FrozenTrial], results: Sequence[JobResult]) -> FrozenTrial:
    """Among equally good trials, the one whose job the sweep's report ranks first."""
    orders = {result.number: result.order() for result in results if not result.error}
    best = study.best_value  # asks the database
    equals = [trial for trial in finished if trial.value == best]
    return min(equals, key=lambda trial: orders.get(trial.number, (inf, inf)))


def _write_results(best: Sequence[FrozenTrial], file: Path) -> None:
    """Write them as Hydra's plugin does."""
    results: dict[str, Any] = {"best_params": best[0].params, "best_value": best[0].values[0]}
    if len(best[0].values) > 1:
        results = {"solutions": [{"params": each.params, "values": each.values} for each in best]}
    OmegaConf.save(OmegaConf.create({"name": "optuna", **results}), file)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _draw(study: Study, objectives: Sequence[str], folder: Path, finished: Sequence[FrozenTrial]) -> None:
    """Optuna's pictures as PNG: the front of several objectives, else history, importance, slice, contour."""
    before = matplotlib.get_backend()  # of a notebook, which would show these pictures
    matplotlib.use("Agg")
    logging.getLogger("matplotlib.category").setLevel(logging.WARNING)  # it reports choices that are numbers
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as draw

    searched = sorted({param for trial in finished for param in trial.params})
    varied = [param for param in searched if len({str(trial.params.get(param)) for trial in finished}) > 1]
    target = objectives[0]
    pictures: dict[str, Callable[[], Any]]
    if len(objectives) > 1:
        pictures = {"front": lambda: draw.plot_pareto_front(study, target_names=list(objectives))}
    else:
        pictures = {"history": lambda: draw.plot_optimization_history(study, target_name=target)}
        if varied:
            pictures["slice"] = lambda: draw.plot_slice(study, params=varied, target_name=target)
            pictures["importance"] = lambda: draw.plot_param_importances(study, target_name=target)
        if len(varied) > 1:
            pictures["contour"] = lambda: draw.plot_contour(study, params=varied, target_name=target)
        if any(trial.intermediate_values for trial in finished):
            pictures["epochs"] = lambda: draw.plot_intermediate_values(study)
    for name, make in pictures.items():
        with matplotlib.rc_context(), warnings.catch_warnings():  # Optuna changes the style globally
            warnings.simplefilter("ignore")
            make()
            if name == "epochs":
                pyplot.xlabel("Epoch")
                pyplot.ylabel(target)
            for axes in pyplot.gcf().axes:
                _tidy(axes)
            pyplot.savefig(folder / f"{name}.png", dpi=144, bbox_inches="tight")
            pyplot.close()
    matplotlib.use(before)


def _tidy(axes: "Axes") -> None:
    """Make it look like the other pictures: axes in powers of two, no long legends."""
    axes.set_facecolor("white")
    axes.grid(color="#E5E5E5")
    for spine in axes.spines.values():
        spine.set(visible=True, edgecolor="#7F7F7F")
    axes.title.set_text(axes.get_title().removesuffix(" Plot"))
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_locator(matplotlib.ticker.LogLocator(base=2))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_locator(matplotlib.ticker.NullLocator())
    legend = axes.get_legend()
    if legend and (len(legend.get_texts()) > MOST_LINES or len(legend.get_texts()) == 1):
        legend.remove()
