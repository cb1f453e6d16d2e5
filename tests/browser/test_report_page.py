"""The page of a report in a real browser: what it shows is what the records say."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from tests.browser.conftest import (
    AMD,
    FAILED,
    HERE,
    NEWEST,
    OLDER,
    THIS,
    VERIFIED,
    WHY,
    XEON,
    Opened,
    address,
    figures,
    settle,
    visit,
    watched,
)

from tunematrix.checks.bound import Exactly
from tunematrix.checks.verdict import Verdict
from tunematrix.report.html.page import write_page
from tunematrix.report.html.payload import Page
from tunematrix.report.html.sources import lines_of
from tunematrix.report.rows import SYMBOLS, matrix, runs
from tunematrix.results.record import Record
from tunematrix.results.store import Store


def test_the_matrix_is_what_the_records_say(browser: Any, tmp_path: Path) -> None:
    """Each square has the counts of `tunematrix report`, whichever environment it is of."""
    files = sorted(VERIFIED.glob("*.jsonl"))
    write_page(tmp_path / "page.html", [lines_of(file) for file in files])
    records = [record for file in files for record in Store(file).read()]
    with watched(browser, tmp_path / "page.html") as open_page:
        page = open_page()
        tables = page.locator("section.run").all()
        assert len(tables) == 4
        for section, run in zip(tables, runs(records), strict=True):
            shown = section.locator(".square .symbols").all_inner_texts()
            squares = matrix(run.records).values()
            expected = [{SYMBOLS[o]: n for o, n in square.counts.items()} for square in squares]
            assert sorted(
                map(str, map(sorted, (figures(text).items() for text in shown)))
            ) == sorted(str(sorted(one.items())) for one in expected)
            assert section.locator("h2").inner_text() == f"{run.environment} on {run.hardware}"


def test_filters(opened: Opened, payload: Page) -> None:
    """By option, by outcome, by words; each can be taken away, and gone back over."""
    cells = [cell for cell in payload.cells if not cell.arms]
    page = opened("view=cells")
    page.get_by_text("Filter by option").click()
    settle(page)
    rows = page.locator(".cells tbody tr")
    page.select_option("select[data-axis=quantizer]", "hqq-int4")
    settle(page)
    expected = [cell for cell in cells if cell.axes.get("quantizer") == "hqq-int4"]
    assert rows.count() == len(expected) > 20
    page.locator(".chip[data-outcome=unsupported]").click()
    settle(page)
    assert rows.count() == sum(cell.outcome == "unsupported" for cell in expected) > 0
    assert page.locator(".chip[data-outcome=unsupported]").get_attribute("aria-pressed") == "true"
    page.reload()
    page.wait_for_selector(".cells")
    assert page.locator("select[data-axis=quantizer]").input_value() == "hqq-int4"
    page.go_back()
    settle(page)
    assert rows.count() == len(expected)
    page.locator("#words").fill("SAME- accumulation")
    settle(page)
    assert set(rows.locator(".id a").all_inner_texts()) == {
        cell.id for cell in expected if "same-" in cell.id and "accumulation" in cell.id
    }
    found = rows.count()
    page.locator(".chosen").click()
    settle(page)
    assert rows.count() > found > 0
    page.locator("#clear").click()
    settle(page)
    assert page.locator("#words").input_value() == ""
    page.get_by_text("Show the other").click()
    settle(page)
    assert rows.count() == len(cells)
    page.locator("#words").fill("no such cell")
    settle(page)
    page.get_by_text("Show everything").click()
    settle(page)
    assert rows.count() > 0


def test_filters_hold_for_the_matrix(opened: Opened, payload: Page) -> None:
    """Its counts are those of the cells that are left."""
    page = opened(address(**HERE, **{"a.precision": "bf16"}))
    (section,) = page.locator("section.run").all()
    left = [
        cell
        for cell in payload.cells
        if payload.runs[cell.run].id == NEWEST and cell.axes.get("precision") == "bf16"
    ]
    total = sum(
        (figures(text) for text in section.locator(".symbols").all_inner_texts()), Counter()
    )
    assert sum(total.values()) == sum(not cell.arms for cell in left) > 5


def test_sorting(opened: Opened, payload: Page) -> None:
    """By a heading, both ways; what wasn't measured stands last."""
    page = opened(address(view="cells", all="1"))
    shown = page.locator(".cells tbody tr .id a")
    seconds = {cell.id: cell.figures.get("seconds") for cell in payload.cells}
    for way in ("ascending", "descending"):
        page.get_by_role("button", name="time, s").click()
        settle(page)
        assert page.locator(f"th[aria-sort={way}]").inner_text().startswith("time")
        column = page.locator(".cells tbody td[data-label=time]").all_inner_texts()
        values = [float(text.replace(",", "")) for text in column if text != "–"]
        assert values == sorted(values, reverse=way == "descending") and len(values) > 500
        assert "–" not in column[: len(values)]
    assert seconds[shown.first.inner_text()] is not None
    page.select_option("select[name=sort]", "launcher")
    settle(page)
    assert page.locator("thead th[aria-sort]").inner_text().startswith("launcher")
    page.select_option("select[name=sort]", "outcome")
    settle(page)
    assert page.locator(".cells tbody tr .mark").first.get_attribute("data-outcome") == "failed"


def test_from_a_square_to_a_cell_and_back(opened: Opened) -> None:
    """A square leads to its cells; the way back is open."""
    page = opened(address(**HERE))
    square = page.locator("td[data-outcome=failed] a")
    assert square.count() == 1 and WHY in square.get_attribute("title")
    assert WHY in page.locator(".reasons").inner_text()
    square.click()
    settle(page)
    page.evaluate("scrollTo(0, 120)")
    page.locator(".cells .id a", has_text=FAILED).click()
    settle(page)
    assert page.locator("h1 .id").inner_text() == FAILED
    assert page.evaluate("scrollY") == 0
    page.keyboard.press("Escape")
    settle(page)
    assert page.locator("table.cells").count() == 1
    page.go_back()
    settle(page)
    page.go_back()
    settle(page)
    page.go_back()
    settle(page)
    assert page.locator("td[data-outcome=failed] a").count() == 1


def test_a_cell(opened: Opened, payload: Page) -> None:
    """Everything that is known of it, what failed first."""
    (cell,) = (c for c in payload.cells if c.id == FAILED and payload.runs[c.run].id == NEWEST)
    page = opened(address(cell=THIS))
    text = page.locator("main").inner_text()
    assert (
        WHY in text and cell.again in text and "Traceback (most recent call last):\nKilled" in text
    )
    rows = page.locator(".checks tbody tr")
    assert rows.count() == len(cell.checks)
    assert rows.first.locator("th").inner_text().startswith("gradient")
    assert rows.first.locator(".needle.bad").count() == 1
    drawn = sum(check.scale is not None for check in cell.checks)
    assert page.locator(".checks .scale").count() == drawn > 15
    chart = page.locator(".chart")
    assert chart.locator(".curve").count() == 1 and chart.locator(".band").count() == 1
    assert chart.locator("text.label").all_text_contents()[-2:] == [
        "entropy floor",
        "held out, after",
    ]
    assert page.locator(".shares rect").count() == len(cell.durations)
    assert page.locator("h2", has_text=f"Earlier runs: {len(OLDER) + 1}").count() == 1
    assert page.locator(".spark .dot[data-outcome=failed]").count() == 1
    page.get_by_text("Versions").click()
    settle(page)
    assert "2.13.0+cpu" in page.locator("main").inner_text()
    page.get_by_text("Machine", exact=True).click()
    settle(page)
    assert "cpu_capability" in page.locator("main").inner_text()


def test_relations_and_their_arms(opened: Opened, payload: Page) -> None:
    """From a relation to an arm, and from there to what compares it."""
    page = opened(address(view="relations", **HERE))
    mine = [c for c in payload.cells if c.arms and payload.runs[c.run].id == NEWEST]
    assert page.locator(".relations tbody tr").count() == len(mine) == 76
    name = "same-accumulation[cpu-full-none]"
    row = page.locator(".relations tbody tr", has=page.get_by_text(name, exact=True))
    row.locator("summary").click()
    row.get_by_text(f"{name[:-1]}-2x4]", exact=True).click()
    settle(page)
    assert page.locator("h1 .id").inner_text() == f"{name[:-1]}-2x4]"
    page.locator(".arms a", has_text=name).click()
    settle(page)
    assert page.locator("h1 .id").inner_text() == name and page.locator(".arms li").count() == 3


def test_two_runs_side_by_side(opened: Opened, payload: Page) -> None:
    """The run before, and another machine; medians are those of the figures."""
    page = opened(address(view="compare", figure="seconds"))
    first = payload.comparisons[0]
    assert first.before_run is None and first.same == 40
    text = page.locator("main").inner_text()
    assert f"40 cells and relations ended alike, and {325 - 40} did not." in text
    (row,) = page.locator(".flips tr", has_text="failed").all()
    assert row.inner_text().split()[0] == FAILED
    assert page.locator(".flips tr", has_text="not run").count() == 325 - 41
    page.select_option("select[name=pair]", "1")
    settle(page)
    pair = payload.comparisons[1]
    assert XEON in pair.before and AMD in pair.after
    passed = [
        c for c in pair.cells if c.outcomes == ("passed", "passed") and "seconds" in c.figures
    ]
    ratio = median(c.figures["seconds"][1] / c.figures["seconds"][0] for c in passed)
    assert f"Median {ratio:.2f} of {len(passed)} cells" in page.locator("main").inner_text()
    assert page.locator(".moves tr", has_text=AMD).count() == 1
    page.locator(".ratios .id a").first.click()
    settle(page)
    assert page.locator("main[data-view=cell] h1").count() == 1


def test_parity_across_backends(opened: Opened, payload: Page) -> None:
    """A row for each value, a column for each run."""
    page = opened("view=parity")
    assert page.locator(".parity tbody tr").count() == len(payload.parity)
    head = page.locator("table.parity").first.locator("thead th").all_inner_texts()
    assert [text.split()[0] for text in head] == ["value", "cpu", "cpu", "mlx", "mlx", "difference"]
    assert page.locator(".parity td b").count() > 10


def test_what_records_lack(browser: Any, tmp_path: Path) -> None:
    """A loss that is no number is a gap, columns that nothing fills aren't there, names are cut."""
    losses = tuple((step, math.nan if step in (4, 5) else 1 / step) for step in range(1, 11))
    axes = {"recipe": "sft", "method": "m" * 120, "quantizer": "q" * 200}
    checks = (Verdict("exit", "passed", "0", Exactly("0"), "", ""),)
    one = Record(NEWEST, "a[x]", "a.yaml", "cpu", axes, "passed", checks=checks, losses=losses)
    one = replace(one, machine={"hardware": AMD}, versions={"torch": "2.13"})
    none = replace(one, cell_id="n[x]", losses=tuple((step, math.nan) for step in (1, 2)))
    other = replace(one, machine={"hardware": XEON}, losses=losses[:2])
    for record in (one, none, other):
        Store(tmp_path / "r.jsonl").append(record)
    write_page(tmp_path / "page.html", [lines_of(tmp_path / "r.jsonl")])
    with watched(browser, tmp_path / "page.html") as opened:
        page = opened()
        assert page.locator(".run").count() == 2
        named = page.locator(".matrix tbody th").first
        assert named.inner_text() == "q" * 27 + "…" and named.get_attribute("title") == "q" * 200
        visit(page, address(cell=f"cpu/{NEWEST}/a[x]"))
        assert (
            page.locator(".chart .curve").count() == 2 and page.locator(".chart .gap").count() == 1
        )
        assert "The loss was no number at step 4 to 5." in page.inner_text("main")
        assert "no number at step 4 to 5" in page.locator(".chart").get_attribute("aria-label")
        heads = page.locator(".checks thead th:visible").all_inner_texts()
        assert [head for head in heads if head] == ["outcome", "check", "measured", "bound"]
        visit(page, address(cell=f"cpu/{NEWEST}/n[x]"))
        assert page.locator(".chart").count() == 0
        assert "The loss was no number at step 1 to 2." in page.inner_text("main")
        visit(page, address(cell=f"cpu/{NEWEST}/a[x]/{XEON}"))
        assert page.locator(".chart .gap").count() == 0 and XEON in page.inner_text("main")
