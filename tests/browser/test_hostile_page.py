"""Records that somebody else has written: their texts are shown, and nothing is done for them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.browser.conftest import settle, visit, watched

from tunematrix.checks.bound import AtLeast, AtMost, Between, Exactly, Near
from tunematrix.checks.verdict import Verdict
from tunematrix.report.html.page import write_page
from tunematrix.report.html.sources import lines_of
from tunematrix.results.record import Record
from tunematrix.results.store import Store

TEXTS = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "\"'><a href=javascript:alert(1)>x</a>",
    "</script><script>alert(1)</script>",
    "{{7*7}} ${7*7} <%= 7 %>",
    '=HYPERLINK("http://example.org","x")',
    "../../../../etc/passwd",
    "\x1b[2J\x1b]0;owned\x07",
    "\u202eesrever\u2066 \ufeff \u0000 \ud800",
    "view",
    "__proto__",
    "constructor",
    "%00 %2f #a?b=c&d",
    "ά漢字🎉 zero\u200bwidth",
    "x" * 5000,
    " ",
    "",
    "a|b,c;d\ne\tf",
    "&lt;b&gt;",
)
LINKS = ("javascript:alert(1)", "data:text/html,<script>alert(1)</script>", "https://ok.example/x")


def hostile(number: int, text: str) -> Record:
    """A record with the same text everywhere."""
    nothing = math.inf if number % 2 else math.nan
    checks = (
        Verdict(text, "failed", text, Exactly(text, note=text), text, text),
        Verdict("a", "warned", nothing, AtMost(1e308), "", text),
        Verdict("b", "passed", -1e308, Between(-1e308, 1e308), "", ""),
        Verdict("c", "passed", 0.0, Near(0.0, 0.0), "", ""),
        Verdict("d", "passed", 1e-320, AtLeast(-math.inf), "", ""),
    )
    return Record(
        run_id=f"2026112{number % 2}-0800-{text}"[:200],
        cell_id=f"{number} {text}",
        spec=text,
        environment="cpu",
        axes={text: text, "method": text, "quantizer": text, "recipe": (text, text)},
        outcome="failed",
        reason=text,
        link=LINKS[number % 3],
        checks=checks,
        metrics={text: 1.0, "seconds": 1e308, "gap_closed": -1e-320, "parity_x": nothing},
        durations={text: 1.0, "b": -3.0, "total": 1.0},
        versions={text: text, "torch": text},
        machine={text: text, "hardware": text, "system": text},
        overrides={text: text},
        backend=text,
        losses=((1, 1e308), (1, -1e308), (2, nothing)),
        stderr=text,
    )


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of such records, each in a run of its own, and a relation of two."""
    folder = tmp_path_factory.mktemp("hostile")
    store = folder / "records.jsonl"
    records = [hostile(number, text) for number, text in enumerate(TEXTS)]
    relation = replace(records[0], cell_id="relation", arms=(records[0].cell_id, TEXTS[1]))
    with store.open("w", encoding="utf-8") as out:
        for record in [*records, relation]:
            out.write(json.dumps(record.to_json()) + "\n")
    write_page(folder / "page.html", [lines_of(store)])
    return folder / "page.html"


def test_nothing_is_done_for_them(browser: Any, file: Path) -> None:
    """No script runs, no dialog opens, no link leads to a script, nothing is asked for."""
    with watched(browser, file) as opened:
        page = opened()
        assert page.title() == "tunematrix: cpu"
        for view in ("matrix", "cells", "relations", "compare", "parity"):
            visit(page, f"view={view}")
            _assert_harmless(page)
        visit(page, "view=matrix")
        addresses = page.evaluate(
            "() => [...document.querySelectorAll('.reasons .ids a')].map((one) => one.hash)"
        )
        assert len(set(addresses)) == len(TEXTS) + 1
        for hash_ in addresses:
            visit(page, hash_)
            assert page.locator("h1 .id").count() == 1
            _assert_harmless(page)


def test_their_texts_are_shown(browser: Any, file: Path) -> None:
    """As they are, with control characters written out."""
    with watched(browser, file) as opened:
        text = opened("view=cells").locator("main").inner_text()
    for shown in ("<img src=x onerror=alert(1)>", "\\x1b[2J", "\\u202e", "\\ud800", "&lt;b&gt;"):
        assert shown in text


def test_a_script_that_came_in_would_not_run(browser: Any, file: Path) -> None:
    """The page's policy is a second wall, behind the first that no text is taken for HTML."""
    titles: list[str] = []
    with pytest.raises(AssertionError, match="violates the following Content Security Policy"):
        _let_in(browser, file, titles)
    assert titles == ["tunematrix: cpu"]


def test_an_empty_past_and_a_long_one(browser: Any, tmp_path: Path) -> None:
    """One run, one cell, nothing measured; then forty runs of it."""
    bare = Record("20261101-0800-a", "a", "a.yaml", "cpu", {}, "unavailable")
    for runs in (1, 40):
        store = tmp_path / f"{runs}.jsonl"
        for day in range(runs):
            Store(store).append(
                replace(bare, run_id=f"2026{1 + day // 28:02d}{1 + day % 28:02d}-0800-a")
            )
        write_page(tmp_path / "page.html", [lines_of(store)])
        with watched(browser, tmp_path / "page.html") as opened:
            page = opened()
            for view in ("cells", "relations", "compare", "parity", "matrix"):
                visit(page, f"view={view}")
            page.locator(".square").click()
            settle(page)
            assert page.locator("h1 .id").inner_text() == "a"


def _let_in(browser: Any, file: Path, titles: list[str]) -> None:
    """Put a picture that can't be loaded into a page, with a script for that case."""
    with watched(browser, file) as opened:
        page = opened()
        picture = "<img src=x onerror='document.title=1'>"
        page.evaluate("(html) => document.body.insertAdjacentHTML('beforeend', html)", picture)
        page.wait_for_timeout(100)
        titles.append(page.title())


def _assert_harmless(page: Any) -> None:
    handlers = page.evaluate(
        "[...document.querySelectorAll('*')].flatMap((one) => one.getAttributeNames())"
        ".filter((name) => name.startsWith('on'))"
    )
    assert handlers == []
    links = page.evaluate("[...document.querySelectorAll('a')].map((one) => one.href)")
    assert all(link.startswith(("file:", "https://ok.example/x")) for link in links)
    assert page.evaluate("document.querySelectorAll('img, iframe, script:not([type])').length") == 1
