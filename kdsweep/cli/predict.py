"""The command `kdsweep-predict`: classify image files with an exported model, without torch."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kdsweep.cli import console
from kdsweep.system.exits import DONE, FAILED

if TYPE_CHECKING:
    from kdsweep.export.predict import Predicted

EXAMPLES = """
kdsweep-predict shipped photo.jpg            print file, class and probability, separated by tabs
kdsweep-predict shipped photos --top 3       the three likeliest classes of every image in a folder
"""


def main() -> None:
    """The `kdsweep-predict` command. Exit status 0: done, 1: a mistake or an image that cannot be read."""
    console.run(_parser(), _run)


def _parser() -> argparse.ArgumentParser:
    parser = console.parser(
        "kdsweep-predict", "Classify image files with a folder that kdsweep-export has made.", EXAMPLES
    )
    parser.add_argument("folder", type=Path, metavar="MODEL_FOLDER", help="folder with an ONNX file")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="files, and folders of images")
    parser.add_argument(
        "--model",
        metavar="FILE",
        help="model file in the folder (default: model.onnx, else model.int8.onnx)",
    )
    parser.add_argument("--top", type=_count, default=1, metavar="K", help="the K likeliest classes (1)")
    parser.add_argument("--batch", type=_count, default=32, metavar="N", help="images at a time (32)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number, 1 or more")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    from kdsweep.data.files.names import printable
    from kdsweep.export.predict import Predictor, image_files

    files = image_files(options.images)
    predictor = Predictor(options.folder, options.model)
    results = []
    for each in predictor.predict(files, options.top, options.batch):
        results.append(each)
        file = printable(str(each.file))
        if each.error:
            print(f"kdsweep-predict: {file}: {each.error}", file=sys.stderr)
        elif not options.json:
            for name, probability in each.classes:
                print(f"{file}\t{name}\t{probability:.4f}")
    if options.json:
        print(_as_json(results))
    return FAILED if any(each.error for each in results) else DONE


def _as_json(results: "Sequence[Predicted]") -> str:
    rows = []
    for each in results:
        classes = [{"class": name, "probability": probability} for name, probability in each.classes]
        rows.append(
            {"file": str(each.file), **({"error": each.error} if each.error else {"classes": classes})}
        )
    return json.dumps(rows, indent=1)


if __name__ == "__main__":
    main()
