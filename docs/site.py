"""Makes a site of pages written for a code host: adds the files of conf/, gives fences titles."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

CONF = Path(__file__).parent.parent / "conf"


def on_files(files: Files, config: Any) -> Files:
    for file in CONF.rglob("*.yaml"):
        path = f"conf/{file.relative_to(CONF).as_posix()}"
        files.append(File.generated(config, path, abs_src_path=str(file)))
    return files


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """`../conf/`, as seen from docs/, is `conf/` in the site; what a block of commands needs is its title."""
    markdown = re.sub(r"^``` (needs .*)$", r'``` { .text title="\1" }', markdown, flags=re.MULTILINE)
    return markdown.replace("](../conf/", "](conf/")
