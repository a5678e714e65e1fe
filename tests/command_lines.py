"""Runs many command lines in one process: each in a fork, in a folder of its own, up to where it would train.

python tests/command_lines.py FOLDER < lines.json > results.json
"""

import contextlib
import importlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

MODULES = {
    "kdsweep": "cli.main",
    **{f"kdsweep-{name}": f"cli.{name}" for name in ("report", "export", "predict", "store")},
}
SECONDS = 60
WOULD_TRAIN = "would train"


def run(argv: list[str], folder: Path) -> dict[str, object]:
    """Exit status, what was printed and the seconds it took; None for one that was ended."""
    there = folder / "here"
    there.mkdir(parents=True)
    (there / "FILE").write_text("no database, no folder\n")
    start = time.monotonic()
    if not (child := os.fork()):
        os._exit(_child(argv, there))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    told = {name: (folder / name).read_text(errors="replace") for name in ("out", "err")}
    return {"status": code, "seconds": time.monotonic() - start, **told}


def _child(argv: list[str], there: Path) -> int:
    signal.alarm(SECONDS)
    os.chdir(there)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(there.parent / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = argv
    status: object = 0
    try:
        importlib.import_module(f"kdsweep.{MODULES[argv[0]]}").main()
    except SystemExit as stop:
        status = stop.code
    except BaseException:
        traceback.print_exc()
        status = 70
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    return int(status or 0) if isinstance(status, int | None) else 1


def preload() -> None:
    """Import what commands import, and have jobs end where they would train."""
    import kdsweep.analysis.combine
    import kdsweep.export.export
    import kdsweep.job
    import kdsweep.report.tables
    import kdsweep.sweeps.callback
    import kdsweep.sweeps.search.study
    from kdsweep.cli import main as cli
    from kdsweep.errors import KdsweepError
    from kdsweep.stages import latency, maker

    def stop(*given: object) -> None:
        raise KdsweepError(WOULD_TRAIN)

    assert cli
    maker.Maker.obtain = stop
    latency.latency = lambda *networks: None
    kdsweep.sweeps.callback.begin_database = lambda uri: None  # which takes seconds


if __name__ == "__main__":
    preload()
    lines = json.load(sys.stdin)
    print(json.dumps([run(line, Path(sys.argv[1]) / str(i)) for i, line in enumerate(lines)]))
