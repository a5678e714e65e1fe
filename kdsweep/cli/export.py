"""The command `kdsweep-export`: from a sweep to the files to ship."""

import argparse
import sys
from pathlib import Path

from kdsweep.cli import console
from kdsweep.config.defaults import configured
from kdsweep.system.exits import DONE
from kdsweep.system.terminal import say

KINDS = ("onnx", "torch-export", "torchscript", "safetensors")
EXAMPLES = """
kdsweep-export multirun/DAY/TIME --to onnx --out shipped            the sweep's best student
kdsweep-export RUN_ID --to onnx --quantize static --out shipped     also in eight bits
kdsweep-export multirun/DAY/TIME --job 3 --to safetensors --out shipped    job 3 instead of the best
"""


def main() -> None:
    """The `kdsweep-export` command. Exit status 0: done, 1: a mistake or a failure, 2: interrupted."""
    console.run(_parser(), _run)


def _parser() -> argparse.ArgumentParser:
    parser = console.parser(
        "kdsweep-export",
        "Write a sweep's best student as files, with preprocessing and model card.",
        EXAMPLES,
    )
    parser.add_argument(
        "what", metavar="WHAT", help="folder of a sweep or job, MLflow run, or experiment by name or id"
    )
    parser.add_argument(
        "--to", nargs="+", action="extend", choices=KINDS, required=True, metavar="FORMAT",
        help=f"one or several of {', '.join(KINDS)}",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to create")
    parser.add_argument("--force", action="store_true", help="replace an existing export")
    parser.add_argument("--role", default="student", help="student (default), teacher, scratch, …")
    parser.add_argument(
        "--job",
        type=int,
        metavar="N",
        help="this job (from 0, as in its folder's name), not the best one",
    )
    parser.add_argument(
        "--quantize",
        choices=("dynamic", "static"),
        help="also write ONNX in eight bits: dense layers, or all layers",
    )
    parser.add_argument("--tracking-uri", help="MLflow (default: the config's)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _run(options: argparse.Namespace) -> int:
    from kdsweep.cli.records import read
    from kdsweep.config import Tracking
    from kdsweep.errors import KdsweepError
    from kdsweep.export.export import Order, export, show

    if options.quantize and "onnx" not in options.to:
        raise KdsweepError(f"--quantize {options.quantize}: needs --to onnx")
    uri = options.tracking_uri or configured("tracking.uri")
    tracking = Tracking(uri=uri, experiment=configured("tracking.experiment"))
    kinds = [kind for kind in KINDS if kind in options.to]
    order = Order(kinds, options.out, options.role, options.job, options.quantize, options.force)
    records = read(options.what, uri)
    if options.tracking_uri and all(record.folder for record in records):
        say(
            f"kdsweep-export: --tracking-uri {uri}: is used only for weights that the store no longer has",
            sys.stderr,
        )
    exported = export(records, order, tracking)
    print(exported.as_json() if options.json else show(exported))
    return DONE


if __name__ == "__main__":
    main()
