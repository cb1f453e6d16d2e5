"""The Markdown of a run: what it says, that it fits, and that nothing foreign in it is obeyed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from tests.unit.report.shown import WARNED

from tunematrix.checks.bound import AtLeast
from tunematrix.checks.verdict import Verdict
from tunematrix.report.summary import LEAST, LONGEST, as_summary, code, in_table
from tunematrix.results.record import Outcome, Record
from tunematrix.results.store import Store

COMMITTED = Path(__file__).parents[3] / "docs/verified"
GAP = Verdict("gap_closed", "failed", 0.42, AtLeast(0.8), "of the gap", "the rate was 0")
REASON = "gap_closed: the rate was 0"
OURS = re.compile(r"<br>|</?code>|<details><summary>[\w ≈·?]+</summary>|</details>")
HOSTILE = [
    "a|b",
    "`",
    "``",
    "`` ` ```",
    "ends with `",
    "a\\|b",
    "a\\",
    "<script>alert(1)</script>",
    "</code></details><img src=x onerror=alert(1)>",
    "<!-- swallowed",
    "@octocat",
    "@org/team please",
    "#1 and GH-1 and org/repo#1",
    "https://evil.example/?a=b",
    "www.evil.example",
    "someone@evil.example",
    "[click](https://evil.example)",
    "![x](https://evil.example/x.png)",
    "**bold** _it_ ~~no~~ $x$ :bomb:",
    "&lt;b&gt;",
    "# heading",
    "- [ ] task",
    "=HYPERLINK(1)",
    "../../etc/passwd",
    "\x1b[2J\x07",
    "two\n\nparagraphs\n```\nout",
    "~~~\n```\n````",
    "\ud800\u202e",
]


def record(
    name: str, outcome: Outcome = "passed", reason: str = "", quantizer: str = "none"
) -> Record:
    """A record of one cell, with a check that failed if it did."""
    axes = {"recipe": "sft", "method": "lora", "quantizer": quantizer}
    checks = (GAP,) if outcome == "failed" else ()
    versions = {"torch": "2.13.0"}
    return Record(
        "20261128-141907-05ae", name, "a.yaml", "cpu", axes, outcome, reason,
        checks=checks, versions=versions, backend="cpu",
    )  # fmt: skip


def everywhere(text: str) -> Record:
    """A failed cell that has a text wherever a record takes one."""
    return Record(
        run_id=text,
        cell_id=text,
        spec=text,
        environment=text,
        axes={"recipe": text, "method": text, "quantizer": text},
        outcome="failed",
        reason=text,
        link=text,
        checks=(replace(GAP, name=text, message=text, unit=text, measured=text),),
        versions={text: text},
        machine={"hardware": text, "system": text, "python": text},
        run_dir=text,
        backend=text,
        stderr=text,
    )


def tokens(text: str) -> Iterator[Token]:
    """What a reader of GitHub's Markdown finds in a page."""
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse(text):
        yield from token.children or [token]


def test_what_failed_comes_first() -> None:
    """With check, bound, cause and command; then the matrix with a legend; versions folded."""
    page = as_summary(
        [
            record("good[1]"),
            record("bad[1]", "failed", REASON, "hqq-int4"),
            record("odd[1]", "known_failure", "a bug", "hqq-int4"),
        ]
    )
    parts = [
        "## ✗ `cpu`",
        "✗ 1 failed, ≈ 1 known failure, ✓ 1 passed",
        "**✗** `bad[1]`",
        "gap_closed: measured 0.42 of the gap, bound >= 0.8",
        "because  the rate was 0",
        "run again: tunematrix run -e cpu 'a.yaml::bad[1]'",
        "| recipe | method | `none` | `hqq-int4` |",
        "| `sft` | `lora` | ✓1 | ✗1 ≈1 |",
        "? unavailable",
        "<details><summary>versions</summary>",
        "torch==2.13.0",
        "<details><summary>≈ 1 known failure</summary>",
    ]
    places = [page.find(part) for part in parts]
    assert -1 not in places and places == sorted(places), page


def test_warnings() -> None:
    """Counted at the top; each text with its cell in a fold below."""
    page = as_summary([replace(record("good[1]"), checks=(WARNED,))])
    assert "cells: ✓ 1 passed, 1 warning\n" in page
    said = "watched_batches: 10 rows had been seen before\n  good[1]\n"
    assert f"<summary>1 warning</summary>\n\n```text\n{said}```" in page


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_foreign_is_obeyed(text: str) -> None:
    """Markdown, HTML, links and mentions of a record are shown as code; tables stay whole."""
    page = as_summary([everywhere(text), record("good[1]")])
    page.encode()
    assert "\x1b" not in page and "\u202e" not in page
    rows, width = 0, 0
    for token in tokens(page):
        assert token.type not in ("link_open", "image", "em_open", "s_open", "list_item_open")
        if token.type in ("html_inline", "html_block"):
            assert not OURS.sub("", token.content).strip(), token.content
        rows += token.type == "tr_open"
        width += token.type in ("td_open", "th_open")
    # Two sections: each a head and a row of three columns.
    assert (rows, width) == (4, 12)


@pytest.mark.parametrize("text", [*HOSTILE, "", "plain", "x" * 5000, "größer ≤ 3 ✗"])
def test_code(text: str) -> None:
    """In a line and in a table, a text is one piece of code, and can be read."""
    for shown in (code(text), f"| {in_table(text)} |\n|---|"):
        found = list(tokens(shown))
        foreign = [t for t in found if t.type == "text" and t.content not in ("", "–")]
        is_html = any(t.type == "html_inline" for t in found)
        assert is_html or not foreign or not text, (shown, foreign)


@pytest.mark.parametrize("count", [1, 3, 40])
def test_the_page_of_many_failures_fits(count: int) -> None:
    """As many as there is room for are told, each run has its share, and the rest is counted."""
    records = [
        replace(record(f"bad[{cell}]", "failed", "long " * 500), run_id=f"r{run}", stderr="y" * 900)
        for run in range(count)
        for cell in range(120)
    ]
    page = as_summary(records)
    assert len(page) <= LONGEST and len(page.encode()) < 2**20
    shown = page.count("\nrun again: ")
    assert 0 < shown < len(records)
    if count == 1:
        assert f"\n{120 - shown} more failed: `tunematrix report -e cpu`" in page
        assert "| `sft` | `lora` | ✗120 |" in page
    sections = page.count("## ✗ ")
    assert sections == min(count, LONGEST // LEAST)
    assert (f"{count - sections} more runs are left out" in page) == (sections < count)


def test_a_matrix_that_is_too_large_is_left_out() -> None:
    """And it is said so; what failed is told all the same."""
    many = [record(f"a[{n}]", quantizer=f"q{n}") for n in range(12_000)]
    page = as_summary([record("bad[1]", "failed"), *many])
    assert len(page) <= LONGEST
    assert "`bad[1]`" in page and "is left out here" in page


def test_real_records() -> None:
    """All four files at once, whole."""
    records = [one for file in sorted(COMMITTED.glob("*.jsonl")) for one in Store(file).read()]
    page = as_summary(records)
    assert len(page) <= LONGEST
    assert re.findall(r"^## (.) `(\w+)`", page, re.MULTILINE) == [
        ("✓", name) for name in ("cpu", "cpu", "mlx", "mlx")
    ]
    assert "left out" not in page
    assert page.count("| `sft` | `lora` |") == 4


@pytest.mark.parametrize(
    ("outcome", "sign"), [("passed", "◐"), ("unavailable", "◐"), ("failed", "✗"), ("error", "✗")]
)
def test_an_interrupted_run_is_no_green_one(outcome: Outcome, sign: str) -> None:
    """Its sign, and how far it came, stand first; nobody knows that of older records."""
    page = as_summary([replace(record("a", outcome), planned=2)])
    assert page.startswith(f"## {sign} `cpu`\n\n**interrupted: 1 of 2 ran**<br>\ncells: ")
    assert "interrupted" not in as_summary([record("a", outcome)])
