"""Refuse what a command must not ask for, with a line, before anything is trained or written."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from kdsweep.errors import ConfigError, KdsweepError
from kdsweep.sweeps.compose import compose
from kdsweep.sweeps.launchers.base import jobs_at_once, refuse_launcher
from kdsweep.sweeps.overrides import count, key_of
from kdsweep.sweeps.search.sweeper import Search
from kdsweep.system.files import why_unwritable
from kdsweep.tracking.database import database_file

if TYPE_CHECKING:
    from kdsweep.config import Config
    from kdsweep.stages.prepare import Job

SQLITE = b"SQLite format 3\0"  # the first bytes of such a file
OF_THE_SWEEP = ("plan", "register", "search", "tracking")
MOST_PLANNED = 5000  # jobs in one plan, which composes, checks and shows each
MOST_JOBS = 100_000  # of a sweep; Hydra lists them all before the first begins


def check_job_alone(config: DictConfig) -> None:
    """Raise ConfigError if a job alone asks for what only a sweep has."""
    refuse_chdir(config)
    if config.get("search"):
        chosen = config.hydra.runtime.choices.search
        raise ConfigError(f"search={chosen}: needs -m, as in kdsweep -m search={chosen}")
    for key, others in (("confirm", "temperature=1,4"), ("tune", "method=kd,dkd confirm=3")):
        if wanted := config.get(key):
            raise ConfigError(f"{key}={wanted}: needs -m, as in kdsweep -m {others} {key}={wanted}")
    refuse_launcher(config.hydra)


def refuse_chdir(config: DictConfig) -> None:
    """Raise ConfigError if each job would start in its own folder, where jobs share nothing."""
    if config.hydra.job.chdir:
        raise ConfigError(
            "hydra.job.chdir=true: must be false, paths are relative to where kdsweep is started"
        )


def check_hydra(config: DictConfig) -> None:
    """Raise ConfigError for mistakes that Hydra would find only after the sweep has begun."""
    for part, kind in (("sweeper", Sweeper), ("launcher", Launcher)):
        target, known = config.hydra[part]._target_, Plugins.instance().class_name_to_class
        if not issubclass(known.get(target, object), kind):
            allowed = ", ".join(sorted(name for name, each in known.items() if issubclass(each, kind)))
            raise ConfigError(f"hydra.{part}._target_={target}: is no {part}; allowed: {allowed}")
    size = OmegaConf.select(config, "hydra.sweeper.max_batch_size")
    if size is not None and size < 1:
        raise ConfigError(f"hydra.sweeper.max_batch_size={size}: must be 1 or more, or null")
    _check_logging(config)


def _check_logging(config: DictConfig) -> None:
    """Set up a job's log, without its files, and then the sweep's again."""
    logging = config.hydra.job_logging.copy()
    with read_write(logging), open_dict(logging):
        for handler in (logging.get("handlers") or {}).values():
            if "filename" in handler:
                handler.filename = "/dev/null"
    configure_log(logging, config.hydra.verbose)
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)


def check_database(uri: str) -> None:
    """Raise ConfigError if MLflow's database file cannot be used: MLflow itself would try for a minute."""
    file = database_file(uri)
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        begins = file.open("rb+").read(len(SQLITE)) if file.exists() else b""
        why = why_unwritable(file.parent)
    except OSError as error:
        begins, why = b"", error.strerror
    if begins and begins != SQLITE:
        why = "is no database"
    if why:
        raise ConfigError(
            f"tracking.uri={uri}: {file}: {why}; start where you may write, or give another file"
        )


def check_sweeps(overrides: Sequence[Override], grid: bool) -> None:
    """Raise ConfigError for sweeps that give no job, or none that this sweeper runs."""
    for override in overrides:
        if not override.is_sweep_override():
            continue
        if re.split(r"[./]", key_of(override))[0] in OF_THE_SWEEP:
            raise ConfigError(f"{override.input_line}: cannot be swept, it is for the sweep as a whole")
        if grid and override.is_interval_sweep():
            raise ConfigError(
                f"{override.input_line}: an interval is for a search, such as search=optuna; a sweep takes "
                "values, such as 1,2,4 or range(1,5)"
            )
        check_number(count(override), plan=False)
        if not count(override):
            raise ConfigError(
                f"{override.input_line}: gives no value, so there is no job; give values, such as "
                "temperature=1,4, range(1,5), or a glob that matches files of a group"
            )


def check_number(jobs: int, plan: bool) -> None:
    """Raise ConfigError for too many jobs."""
    most = MOST_PLANNED if plan else MOST_JOBS
    if jobs > most:
        what = "plan=true shows" if plan else "a sweep takes"
        raise ConfigError(f"{jobs:,} jobs: {what} {most:,} at most; sweep over fewer values at a time")


def refuse_disturbed_objective(config: DictConfig, first: "Config") -> None:
    """Raise ConfigError if jobs would disturb each other's measured objective."""
    if "cost/latency_ms" in first.objective and (at_once := jobs_at_once(config)) != 1:
        raise ConfigError(
            f"objective=cost/latency_ms: it is measured, and {at_once or 'several'} jobs at a time disturb "
            "each other; take hardware=cpu, which runs one, or cost/flops"
        )


def check_sweeper(config: DictConfig) -> int | None:
    """How many trials the sweeper will run; None for all jobs. Raises ConfigError if a search cannot run."""
    if Plugins.instance().class_name_to_class.get(config.hydra.sweeper._target_) is Search:
        from kdsweep.sweeps.search.study import check

        return check(config)
    trials: int | None = OmegaConf.select(config, "hydra.sweeper.n_trials")
    return trials


def refuse_unused(config: DictConfig, jobs: "Sequence[Config]") -> None:
    """Raise ConfigError if the command sets a temperature or an alpha that no job's method uses."""
    given = [line.partition("=")[0].lstrip("+") for line in config.hydra.overrides.task]
    for key in ("temperature", "alpha"):
        if key in given and not any(job.method.uses(key) for job in jobs):
            method = jobs[0].method
            own = ", ".join(method.options) or "none"
            raise ConfigError(
                f"{key}: method={method.name} does not take it, so it would change nothing; numbers that it "
                f"takes: {own}; a term of your own takes it by `{key}: {key}`"
            )


def config_alone(config: DictConfig) -> "Config":
    """The config of a job alone. Raises ConfigError for what is wrong with it."""
    from kdsweep.config.parse import parse

    return parse(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))


def check_jobs(config: DictConfig, jobs: Sequence[Sequence[str]]) -> "list[Job]":
    """Every job, prepared. Raises ConfigError with the mistakes of all jobs, each once."""
    from kdsweep.config.parse import parse
    from kdsweep.stages.prepare import prepare

    problems: list[str] = []
    prepared = []
    for composed in compose(config, jobs):
        try:
            prepared.append(prepare(parse(composed)))
        except KdsweepError as error:
            problems += str(error).splitlines()
    if problems:
        raise ConfigError("\n".join(["nothing was started", *dict.fromkeys(problems)]))
    return prepared
