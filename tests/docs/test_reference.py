"""docs/reference.md is what the schema and conf/ say, and they say it of every key and option."""

import re
import runpy
from collections.abc import Iterator

from helpers import CONF
from zoo_examples import METHODS

from kdsweep.config import Config

DOCS = CONF.parent / "docs"


def test_the_page_is_current():
    made = runpy.run_path(str(DOCS / "reference.py"))["reference"]()
    assert made == (DOCS / "reference.md").read_text(), "python docs/reference.py makes it anew"


def test_the_cards_of_methods_say_what_their_code_needs():
    page = (DOCS / "methods.md").read_text()
    assert runpy.run_path(str(DOCS / "reference.py"))["with_needs"](page) == page, "python docs/reference.py"
    cards = {name for heading in re.findall(r"(?m)^### (.+)$", page) for name in heading.split(", ")}
    assert cards == set(METHODS) - {"scratch"}
    assert page.count("- **Needs**: ") == len(re.findall(r"(?m)^### ", page))


def test_every_key_says_what_it_means():
    schema = Config.model_json_schema()
    sections = {"": schema, **schema["$defs"]}
    silent = [
        f"{name}.{key}"
        for name, section in sections.items()
        for key, value in section["properties"].items()
        if not value.get("description")
    ]
    assert not silent


def test_every_key_and_every_option_is_there():
    page = (DOCS / "reference.md").read_text()
    missing = [key for key in keys(Config.model_json_schema()) if f"| `{key}` |" not in page]
    assert not missing
    files = [*CONF.glob("*/*.yaml"), *CONF.glob("training/*/*.yaml")]
    rows = {file: f"| [`{file.stem}`](../conf/{file.relative_to(CONF)}) | " for file in files}
    missing = [file for file, row in rows.items() if row not in page]
    assert len(files) > 50 and not missing
    silent = [file for file, row in rows.items() if re.search(re.escape(row) + r"( \||; |sets )", page)]
    assert not silent


def keys(schema: dict, properties: dict | None = None, prefix: str = "") -> Iterator[str]:
    """Of sections and of sections in them; those of a network's recipe once."""
    for key, value in (properties or schema["properties"]).items():
        forms = [value, *value.get("oneOf", []), *value.get("anyOf", [])]
        names = [form["$ref"].rpartition("/")[2] for form in forms if "$ref" in form]
        for name in names:
            if name != "Training" or not prefix:
                yield from keys(schema, schema["$defs"][name]["properties"], f"{prefix}{key}.")
        if not names:
            yield prefix + key
