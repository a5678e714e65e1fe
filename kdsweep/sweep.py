"""A sweep as a whole: every job checked before the first one trains, its MLflow parent run, its summary.

Hydra's sweeper and launcher do the sweeping; this is the callback around them. Hydra imports this module at
every start: keep it light.
"""

import itertools
import sys
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, QuotedString
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from kdsweep.errors import ConfigError, KdsweepError, explain, tell, wants_traceback
from kdsweep.launchers import check_launcher
from kdsweep.result import Result, Sweep

if TYPE_CHECKING:
    from kdsweep.config import Config
    from kdsweep.tracking import Run

JOBS_CHECKED = 500  # of the product of all choices; beyond, every choice is checked with the first others


def refuse_chdir(hydra: Any) -> None:
    """Raise ConfigError if jobs would each begin in a folder of their own, where they share nothing."""
    if hydra.job.chdir:
        raise ConfigError(
            "hydra.job.chdir=true: must be false, paths are relative to where kdsweep is started"
        )


def swept_values(overrides: Sequence[str], keys: Sequence[str]) -> dict[str, Any]:
    """The values that a job's overrides give to the swept keys."""
    parsed = {_key(each): each.value() for each in OverridesParser.create().parse_overrides(list(overrides))}
    values = {key: parsed.get(key) for key in keys}
    return {key: value.text if isinstance(value, QuotedString) else value for key, value in values.items()}


class SweepCallback(Callback):
    def __init__(self) -> None:
        self.run: Run | None = None

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()  # launchers send it to their workers, which have no part in the parent run

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            self._start(config)
        except Exception as error:  # which Hydra would turn into a warning
            tell(error, config.get("debug"))
            raise SystemExit(1) from None

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if self.run is None:
            return
        try:
            self._end(self.run, config, sys.exc_info()[1])
        except Exception as error:
            self.run.end("FAILED", explain(error))
            tell(error, config.debug)
            raise SystemExit(1) from None

    def _start(self, config: DictConfig) -> None:
        refuse_chdir(config.hydra)
        check_launcher(config)
        overrides = _overrides(config)
        keys = [_key(override) for override in overrides if override.is_sweep_override()]
        jobs = _combinations(overrides)
        first = _check(config, jobs)

        from kdsweep.store import Store
        from kdsweep.tracking import Run, Tracker

        tracker = Tracker(first.tracking, Store(first.store))
        tracker.close_dead_runs()
        spec = " ".join(str(each.input_line) for each in overrides if each.is_sweep_override())
        self.run = Run(tracker, spec or "one job", tags={"kdsweep.sweep": spec})
        trials = OmegaConf.select(config, "hydra.sweeper.n_trials")
        sweep = Sweep(self.run.id, keys, len(jobs) if trials is None else trials)
        sweep.save(Path(config.hydra.sweep.dir))
        taught = "alone" if first.method.name == "scratch" else f"taught by {first.teacher.name}"
        what = f"{first.student.name} {taught}, {first.dataset.name}"
        count = "1 job" if sweep.jobs == 1 else f"{sweep.jobs} jobs"
        print(f"{count} over {', '.join(keys)}: {what}" if keys else f"{count}: {what}", flush=True)

    def _end(self, run: "Run", config: DictConfig, error: BaseException | None) -> None:
        from kdsweep.report.summary import summarize

        folder = Path(config.hydra.sweep.dir)
        sweep, results = Sweep.load(folder), Result.load_all(folder)
        for file in summarize(results, sweep.keys, folder):
            run.artifact(file)
        run.close_dead_siblings()
        if isinstance(error, KeyboardInterrupt):
            return run.end("KILLED")
        failed = [result for result in results if result.error]
        for result in failed:
            print(f"job {result.number} ({result.name}) failed: {result.error}", file=sys.stderr)
        if not failed:
            return run.end("FAILED" if error else "FINISHED", str(error) if error else None)
        run.end("FAILED", f"{len(failed)} of {len(results)} jobs failed")
        if isinstance(error, Exception) and wants_traceback(config.debug):
            return None  # Hydra raises it
        raise SystemExit(1)


def _overrides(config: DictConfig) -> list[Override]:
    """The sweep's overrides, those of the sweeper's own config first."""
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    arguments = [f"{key}={value}" for key, value in params.items()] + list(config.hydra.overrides.task)
    return OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(arguments)


def _key(override: Override) -> str:
    """The overridden key or group, without the + that adds it."""
    return override.get_key_element().lstrip("+")


def _combinations(overrides: Sequence[Override]) -> list[list[str]]:
    """The overrides of every job; of an interval, whose values only the sweeper knows, both ends."""
    choices = [_choices(override) for override in overrides]
    if prod(map(len, choices)) <= JOBS_CHECKED:
        return [list(job) for job in itertools.product(*choices)]
    first = [each[0] for each in choices]
    return [[*first[:i], choice, *first[i + 1 :]] for i, each in enumerate(choices) for choice in each]


def _choices(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [str(override.input_line)]
    key, value = override.get_key_element(), override.value()
    if isinstance(value, IntervalSweep):
        return [f"{key}={value.start}", f"{key}={value.end}"]
    return [f"{key}={each}" for each in override.sweep_string_iterator()]


def _check(config: DictConfig, jobs: Sequence[Sequence[str]]) -> "Config":
    """The first job's config. Raises ConfigError with what is wrong with any job, each thing once."""
    from kdsweep.job import prepare
    from kdsweep.parse import parse

    loader = GlobalHydra.instance().config_loader()
    problems: list[str] = []
    configs = []
    for job in jobs:
        composed = loader.load_sweep_config(config, list(job))
        with open_dict(composed):
            del composed["hydra"]
        try:
            configs.append(parse(composed))
            prepare(configs[-1])
        except KdsweepError as error:
            problems += str(error).splitlines()
    if problems:
        raise ConfigError("\n".join(["nothing was started", *dict.fromkeys(problems)]))
    return configs[0]
