"""The documentation as a site: every link leads somewhere, and no page asks another address for anything."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


class Requests(HTMLParser):
    """What a browser fetches to show a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.urls.append(given["href"] or "")
        elif tag in ("script", "img", "iframe", "source") and given.get("src"):
            self.urls.append(given["src"] or "")


def test_every_page_is_in_it_and_fetches_what_is_there(site):
    pages = [page.stem for page in (ROOT / "docs").glob("*.md")]
    assert len(pages) > 10
    for name in pages:
        requests = Requests(site / f"{name}.html").urls
        assert any(url.endswith(".css") for url in requests)
        for url in requests:
            assert not url.startswith(("http", "//")), f"{name} asks {url}"
            assert (site / url.split("?")[0]).is_file(), f"{name} asks {url}"


def test_blocks_say_what_they_need_and_none_is_left_open(site):
    for page in site.glob("*.html"):
        text = re.sub(r"<code>.*?</code>", "", page.read_text(), flags=re.DOTALL)
        assert "```" not in text, f"a fence shows in {page.name}"
    assert '<span class="filename">needs a GPU</span>' in (site / "scaling.html").read_text()


def test_files_of_conf_are_in_it(site):
    file = "conf/student/small_cnn.yaml"
    assert (site / file).read_text() == (ROOT / file).read_text()
    assert f'href="{file}"' in (site / "your-own.html").read_text()
