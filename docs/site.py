"""Makes a site of pages written for a code host: adds files of conf/ and examples/, gives fences titles."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent


def on_files(files: Files, config: Any) -> Files:
    for file in [*ROOT.glob("conf/**/*.yaml"), *ROOT.glob("examples/*.ipynb")]:
        path = file.relative_to(ROOT).as_posix()
        files.append(File.generated(config, path, abs_src_path=str(file)))
    return files


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """`../conf/`, as seen from docs/, is `conf/` in the site, as `../examples/` is; needs become titles."""
    markdown = re.sub(r"^``` (needs .*)$", r'``` { .text title="\1" }', markdown, flags=re.MULTILINE)
    return re.sub(r"\]\(\.\./(conf|examples)/", r"](\1/", markdown)
