"""kdsweep from a notebook or a program: `kdsweep.run` and `kdsweep.sweep`.

A call runs what the command line runs with the same arguments, in this process, and leaves the process as it
was. Files may have changed since the last call, so each call reads everything anew.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime

from kdsweep.errors import KdsweepError, explain, wants_traceback
from kdsweep.launch import launch
from kdsweep.results.record import Record
from kdsweep.results.result import JobResult, SweepInfo
from kdsweep.system.process import as_it_was, forget

if TYPE_CHECKING:
    import pandas
    from torch import nn

    from kdsweep.export.chosen import Chosen

PAGE = "report.html"
RESUME = "finished networks are kept; the same call again resumes"
HEIGHT = 800  # pixels, of a report in a notebook

_running = threading.Lock()


def run(*overrides: str, config_dir: str | Path | None = None) -> "Outcome":
    """Run one job, as the command `kdsweep OVERRIDES` does: `kdsweep.run("temperature=4", "seed=1")`.

    `config_dir` is a folder of your own options, as `--config-dir`. Raises KdsweepError, in the command's
    words, for a mistake or a failed job, and KeyboardInterrupt at Ctrl-C, after which the same call resumes.
    """
    return _outcome([], overrides, config_dir)


def sweep(*overrides: str, config_dir: str | Path | None = None) -> "Outcome":
    """Run a sweep or a search, as the command `kdsweep -m OVERRIDES` does.

    `kdsweep.sweep("temperature=1,2,4", "seed=range(3)")`. A job that fails does not stop the others: it is in
    the outcome's `failed`. Raises as `run` does, but for failed jobs only if no job has finished, or if a
    search has more failures than `search.max_failure_rate` allows.
    """
    return _outcome(["-m"], overrides, config_dir)


class Outcome:
    """What a job or a sweep left: `table`, `answer`, `report()`, the `best` student, the `failed` jobs.

    `folder` has the files, and is None after `plan=true`, which only shows the plan; `record` has every
    figure, typed.
    """

    def __init__(self, record: Record) -> None:
        self.record, self.folder = record, record.folder

    @property
    def table(self) -> "pandas.DataFrame":
        """A row per job by its number, best first by validation, failed jobs last, as in sweep.csv."""
        import pandas

        from kdsweep.report.tables import job_rows

        done = sorted(self.record.finished, key=JobResult.order)
        lost = [result for result in self.record.results if result.error]
        head, *rows = job_rows([*done, *lost, *self.record.confirmations], self.record.sweep.keys)
        return pandas.DataFrame(rows, columns=head).set_index("job")

    @property
    def answer(self) -> str:
        """What the sweep shows, in sentences, a line each."""
        from kdsweep.analysis.conclusions import answer
        from kdsweep.analysis.leaderboard import leaderboard

        return "\n".join(answer(self.record, leaderboard(self.record)))

    @property
    def failed(self) -> dict[int, str]:
        """Why jobs failed, by number."""
        record = self.record
        every = [*record.results, *record.confirmations, *record.trials]
        return {result.number: str(result.error) for result in every if result.failed}

    def report(self) -> "Report":
        """The page with tables and charts, written into the folder; a notebook shows it."""
        from kdsweep.report.page import write_page

        if self.folder is None or not self.record.results:
            raise KdsweepError("no job has ended, so there is nothing to report")
        write_page([self.record], self.folder / PAGE)
        return Report(self.folder / PAGE)

    @cached_property
    def best(self) -> "TrainedNetwork":
        """The best recipe's best student by validation, as in the report and in an export.

        Raises KdsweepError if there is none: no job has finished, several data sets, no validation images.
        """
        return self.trained()

    def trained(self, job: int | None = None, role: str = "student") -> "TrainedNetwork":
        """A network by its job's number, the best job's if you give none, and its role: student, teacher, …

        Raises KdsweepError if there is no such network.
        """
        from kdsweep.export.chosen import choose

        return TrainedNetwork(choose([self.record], job, role))

    def __repr__(self) -> str:
        results, failed = self.record.results, self.failed
        jobs = "1 job" if len(results) == 1 else f"{len(results)} jobs"
        lost = f", failed: {', '.join(map(str, failed))}" if failed else ""
        return f"<{jobs}{lost}; {self.folder or 'nothing was run'}>"


class TrainedNetwork:
    """A trained network. `weights` is its safetensors file."""

    def __init__(self, chosen: "Chosen") -> None:
        """Raises KdsweepError if neither the store nor MLflow has the weights."""
        from kdsweep.config import Tracking
        from kdsweep.export.chosen import weights_file

        tracking = Tracking.model_validate(chosen.sweep.config["tracking"])
        self._chosen, self.weights = chosen, weights_file(chosen, tracking).absolute()

    def network(self) -> "nn.Module":
        """A new copy on the CPU, in eval mode: logits [N, classes] of normalised images [N, C, H, W].

        Raises KdsweepError if it is a network of yours whose code has changed since.
        """
        from kdsweep.export.folder import rebuild

        return rebuild(self._chosen, self.weights)

    def predict(self, images: Any) -> "pandas.DataFrame":
        """The classes of images: a row each, with `class`, its `probability`, and all `probabilities`.

        `images` are pixels from 0 to 255, a uint8 array or tensor [N, C, H, W] or [N, H, W, C] (for one
        channel also [N, H, W]) of the network's size; or a path, or several, of image files of any size, and
        folders of them. They are prepared as in training. Raises KdsweepError for anything else.
        """
        from kdsweep.export.classify import Classifier
        from kdsweep.export.preprocessing import Preprocessing

        preprocessing = Preprocessing.of(self._chosen.result.dataset)
        return Classifier(preprocessing, self._loaded).of_images(images)

    @cached_property
    def _loaded(self) -> "nn.Module":
        return self.network()

    def __repr__(self) -> str:
        val, test = self._chosen.network.val, self._chosen.network.test
        return f"<{self._chosen.title}: {f'val {val.accuracy:.2%}, ' if val else ''}test {test.accuracy:.2%}>"


class Report:
    """The page of a report; `path` is its file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _repr_html_(self) -> str:
        """A frame that holds the page itself: no server need find the file, wherever the notebook lies."""
        page = self.path.read_text("utf-8")
        # links to #… would lead to the notebook without a base
        page = page.replace("<head>", '<head>\n<base href="about:srcdoc">', 1)
        frame = f'<iframe srcdoc="{escape(page)}" width="100%" height="{HEIGHT}" style="border: 0"></iframe>'
        return f"{frame}<br><code>{escape(str(self.path))}</code>"

    def __repr__(self) -> str:
        return f"<report: {self.path}>"


def _outcome(flags: Sequence[str], overrides: Sequence[str], config_dir: str | Path | None) -> Outcome:
    for each in overrides:
        if not isinstance(each, str) or each.startswith("-"):  # an option of the command line
            raise KdsweepError(f"{each!r}: must be an override, KEY=VALUE, such as 'temperature=4'")
    folder = [] if config_dir is None else [f"--config-dir={Path(config_dir).expanduser()}"]
    with _alone():
        ended = launch([*flags, *folder, *overrides])
    if ended.folder is None:
        return Outcome(Record(SweepInfo("", [], 0), []))
    record = Record(SweepInfo.load(ended.folder), JobResult.load_all(ended.folder), ended.folder)
    lost = next((result for result in record.results if result.failed), None)
    if lost and not record.finished:
        name = f" ({lost.name})" if lost.name else ""
        raise KdsweepError(f"no job has finished; job {lost.number}{name}: {lost.error}")
    return Outcome(record)


@contextmanager
def _alone() -> Iterator[None]:
    """Run the block as if it were a process of its own, and explain its errors as the command does.

    Raises KdsweepError for any of them. Its traceback, which leads through Hydra, is shown by debug=true.
    """
    if not _running.acquire(blocking=False):
        raise KdsweepError("another run is under way in this process; wait, or take another process")
    try:
        with as_it_was(), _own_hydra():
            forget()
            try:
                yield
            except KeyboardInterrupt:
                raise KeyboardInterrupt(RESUME) from None
            except Exception as error:
                if wants_traceback():
                    raise KdsweepError(explain(error)) from error
                kind = type(error) if isinstance(error, KdsweepError) else KdsweepError
                raise kind(explain(error)) from None
    finally:
        _running.release()


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Hide a Hydra that is at work: the caller may be a Hydra program, or have called `initialize`."""
    mine, config, runtime = GlobalHydra.instance(), HydraConfig.instance(), JobRuntime.instance()
    hydra, before, name = mine.hydra, config.cfg, runtime.get("name")
    mine.clear()
    try:
        yield
    finally:
        mine.hydra, config.cfg = hydra, before
        runtime.set("name", name)
