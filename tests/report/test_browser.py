"""The report's page in a real browser: Debian's chromium, driven by Playwright, which downloads none.

The pictures of the docs are taken here, of the report of a real sweep:

    SCREENSHOTS=docs/images REPORT=multirun/…/report.html pytest tests/report/test_browser.py -k screenshots
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import invented
import pytest
from pages import nasty

from kdsweep.report.page import write_page
from kdsweep.results.record import Record

PHONE = {"viewport": {"width": 375, "height": 812}, "is_mobile": True, "has_touch": True}

pytestmark = pytest.mark.browser


@pytest.fixture
def opened(chromium: Any, tmp_path: Path) -> Iterator[Any]:
    """Opens the page of records; whatever it complains of, asks for or pops up fails the test."""
    contexts, complaints = [], []

    def asked(request: Any) -> None:
        if request.url != file.as_uri() and not request.url.startswith(("data:", "blob:")):
            complaints.append(request.url)

    def open_page(record: Record, **how: Any) -> Any:
        write_page([record], file)
        contexts.append(chromium.new_context(**({"viewport": {"width": 1180, "height": 900}} | how)))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", asked)
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.goto(file.as_uri())
        if how.get("java_script_enabled", True):
            page.wait_for_selector("html[data-drawn=yes]")
        return page

    file = tmp_path / "report.html"
    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def column(page: Any, number: int) -> list[str]:
    return page.locator(f"#board tbody tr:visible td:nth-child({number})").all_inner_texts()


def means(texts: list[str]) -> list[float]:
    return [float(text.split()[0].replace("−", "-")) for text in texts]


def until(page: Any, condition: str) -> None:
    """Wait for it; Playwright's own wait evaluates text in the page, which its policy forbids."""
    for _ in range(100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never: {condition}")


def test_every_chart_is_drawn_and_nothing_is_asked_for(opened):
    page = opened(invented.sweep())
    charts = page.locator(".chart").count()
    drawn = page.eval_on_selector_all(
        ".chart",
        "all => all.map(each => each.querySelectorAll('.scatterlayer path, .heatmaplayer image').length)",
    )
    assert charts == 8 and all(drawn)
    names = page.eval_on_selector_all(".chart", "all => all.map(each => each.getAttribute('aria-label'))")
    assert all(names)


def test_the_table_is_sorted_by_click(opened):
    page = opened(invented.sweep())
    assert column(page, 1) == list("123456")
    head = page.get_by_role("columnheader", name="test %")
    for order, reverse in (("descending", True), ("ascending", False)):
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == order
        shown = means(column(page, 4))
        assert shown == sorted(shown, reverse=reverse)
    assert page.locator("th[aria-sort]").count() == 1
    page.get_by_role("button", name="temperature").click()
    assert column(page, 2) == ["1", "1", "4", "4", "16", "16"], "as numbers"


def test_the_table_is_sorted_and_searched_by_the_keyboard_alone(opened):
    page = opened(invented.sweep())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "search":
            break
    page.keyboard.type("temperature 16 alpha=0.1")
    assert column(page, 2) == ["16"]
    assert page.get_by_role("status").first.inner_text() == "1 of 6 recipes"
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    page.keyboard.press("Tab")  # the table, which scrolls
    for _ in range(4):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "test %"
    ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert ring == "solid"
    for key in ("Enter", "Space"):
        page.keyboard.press(key)
    shown = means(column(page, 4))
    assert len(shown) == 6 and shown == sorted(shown)


def test_a_point_tells_its_figures(opened):
    page = opened(invented.sweep())
    points = page.locator("#swept .chart >> nth=0").locator(".scatterlayer .trace .point")
    points.first.scroll_into_view_if_needed()
    points.first.hover(force=True)
    told = page.locator("#swept .hoverlayer .hovertext")
    told.first.wait_for()
    assert "test accuracy" in told.first.text_content() and "3 seeds" in told.first.text_content()


def test_another_figure_is_chosen_and_the_front_left_out(opened):
    page = opened(invented.sweep())
    page.select_option("#swept-view", label="validation accuracy")
    assert "validation accuracy" in page.locator("#swept figcaption").inner_text()
    assert page.locator("#swept .ytitle").first.text_content() == "validation accuracy (%)"
    lines = page.locator("#cost .scatterlayer .js-line")
    assert lines.count() == 1
    page.get_by_label("Pareto front").uncheck()
    assert lines.count() == 0
    page.select_option("#cost-view", label="parameters")
    assert page.locator("#cost .xtitle").text_content() == "parameters" and lines.count() == 0


def test_a_phone_scrolls_down_alone(opened):
    page = opened(invented.sweep(), **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.evaluate("document.querySelector('.scroll').scrollWidth") > 375, "the table, within its box"
    widths = page.eval_on_selector_all(".chart .main-svg", "all => all.map(each => each.clientWidth)")
    assert widths and max(widths) <= 375


def test_charts_follow_the_room_and_the_scheme(opened):
    page = opened(invented.sweep())
    page.set_viewport_size({"width": 700, "height": 900})
    until(page, "document.querySelector('.chart .main-svg').clientWidth < 700")
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    ink = "getComputedStyle(document.querySelector('.chart .xtitle')).fill"
    light = page.evaluate(ink)
    page.emulate_media(color_scheme="dark")
    until(page, f"{ink} != '{light}'")
    assert (light, page.evaluate(ink)) == ("rgb(27, 31, 36)", "rgb(230, 234, 238)")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"


def test_print_is_light_and_fits_its_sheet(opened):
    page = opened(invented.sweep(), color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    ink = "getComputedStyle(document.querySelector('.chart .xtitle')).fill"
    assert page.evaluate(ink) == "rgb(27, 31, 36)"
    widths = page.eval_on_selector_all(".chart .main-svg", "all => all.map(each => each.clientWidth)")
    assert widths and max(widths) <= 700, "a sheet's"
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_without_scripts_there_are_tables_and_words(opened):
    page = opened(invented.sweep(), java_script_enabled=False)
    assert "The charts need JavaScript" in page.locator("noscript").inner_text()
    assert page.locator("#board tbody tr").count() == 6
    assert page.locator("#confusion figcaption").is_visible()
    assert not page.locator("#search").is_visible() and not page.locator(".copy").first.is_visible()
    assert not page.locator(".side").first.is_visible(), "no empty charts"


def test_strange_names_are_shown_and_not_run(opened):
    page = opened(nasty())
    assert page.locator("img").count() == 0
    ticks = page.locator("#confusion .chart >> nth=0").locator(".xtick text").all_text_contents()
    assert "<b>bold</b>" in ticks and "</script><s…" in ticks


def test_names_of_colours_are_text_where_they_are_names(opened):
    record = invented.sweep(
        {"student": ("--bar", "--student"), "temperature": (1, 4)}, classes=("--text", "--bar", "--")
    )
    page = opened(record)
    ticks = page.locator("#confusion .chart >> nth=0").locator(".xtick text").all_text_contents()
    assert ticks == ["--text", "--bar", "--"]
    names = page.locator("#swept .chart >> nth=0").locator(".legendtext").all_text_contents()
    assert {"student, student=--bar", "student, student=--student"} <= set(names)
    values = page.locator("#swept .chart >> nth=1").locator(".xtick text").all_text_contents()
    assert values == ["--bar", "--student"]
    drawn = "document.querySelector('#confusion .chart')"
    assert page.evaluate(f"{drawn}.data[0].colorscale[1][1]") == "#0072B2"
    assert page.evaluate(f"{drawn}.data[1].textfont.color.every((each) => each.startsWith('#'))")
    assert not page.evaluate(
        "[...document.querySelectorAll('.chart')].some((each) => / (fill|stroke): --/.test(each.innerHTML))"
    )


def test_the_command_is_copied(opened):
    page = opened(invented.sweep(), permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the command").click()
    page.get_by_text("Copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").startswith("kdsweep -m temperature=1,4,16")
    page.get_by_role("button", name="Copy the export command").click()
    until(page, "document.querySelector('#ship [role=status]')?.textContent === 'Copied.'")
    best = page.evaluate("navigator.clipboard.readText()")
    assert best.startswith("kdsweep-export run") and best.endswith(" --to onnx --out shipped")


def test_two_hundred_trials_answer_at_once(opened):
    page = opened(invented.trials(200))
    assert page.evaluate("performance.now()") < 15_000
    assert page.locator("#board tbody tr").count() == 200
    page.fill("#search", "temperature 1.")
    assert 0 < len(column(page, 1)) < 200


def test_screenshots(chromium, tmp_path):
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    report = Path(os.environ.get("REPORT", tmp_path / "report.html")).absolute()
    if "REPORT" not in os.environ:
        write_page([invented.sweep()], report)
    for name, until_section, how in (
        ("report", "leaderboard", {"viewport": {"width": 1180, "height": 900}}),
        ("report-dark", "swept", {"viewport": {"width": 1180, "height": 900}, "color_scheme": "dark"}),
        ("report-phone", None, PHONE | {"device_scale_factor": 2}),
    ):
        page = chromium.new_context(**how).new_page()
        page.goto(report.as_uri())
        page.wait_for_selector("html[data-drawn=yes]")
        if until_section:
            box = page.locator(f"#{until_section}").bounding_box()
            top = 0 if until_section == "leaderboard" else box["y"] - 24
            height = box["y"] + box["height"] + 24 - top
            clip = {"x": 0, "y": top, "width": 1180, "height": height}
            page.screenshot(path=folder / f"{name}.png", full_page=True, clip=clip)
        else:
            page.screenshot(path=folder / f"{name}.png")
        page.context.close()
        assert 10_000 < (folder / f"{name}.png").stat().st_size <= 300_000


def test_without_validation_no_row_stands_out(opened):
    page = opened(invented.unvalidated(invented.sweep()))
    assert page.locator("#board tbody tr.best").count() == 0, "no T=1 either, in the first column"
    assert page.locator("#board thead").inner_text().split()[0] == "temperature"
    assert page.get_attribute("#search", "placeholder") == "e.g. temperature 1"
    page.get_by_role("button", name="test %").click()
    shown = means(column(page, 3))
    assert shown == sorted(shown, reverse=True)
    assert "validation accuracy" not in page.locator("#swept-view").inner_text()
    assert page.locator("#confusion-view option").count() == 6
    page.select_option("#confusion-view", index=5)
    page.locator("#curves .legendtext", has_text="training").first.wait_for()
