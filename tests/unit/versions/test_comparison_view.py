"""What a terminal and a pull request show of a comparison: all of it, and no letter obeyed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from tunematrix.checks.bound import AtMost
from tunematrix.checks.verdict import Verdict
from tunematrix.report.past import Moved
from tunematrix.report.terminal import render
from tunematrix.results.record import Outcome, Record
from tunematrix.versions.comparison import UpgradeComparison, compared_sides
from tunematrix.versions.comparison_page import comparison_page
from tunematrix.versions.comparison_view import (
    MOST,
    bisect_command,
    comparison_text,
    count_line,
)
from tunematrix.versions.released_faults import FaultsMoved, ReleasedFault

GOOD = Verdict("first_loss", "passed", 0.01, AtMost(0.02), "", "")
BAD = replace(GOOD, outcome="failed", measured=0.07, message="the first loss is too low")
VERSIONS = [Moved("regex", "1", "–"), Moved("trl", "1.13.0", "1.14.0")]
ENTERED = ReleasedFault(
    "https://example.org/1", "losses are summed", {"trl": "<2"}, checks=("labels",)
)
LEFT = ReleasedFault("https://example.org/2", "ranks are lost", {"trl": "<2"})

DOUBTFUL = ReleasedFault("https://example.org/3", "seeds are shared", {"trl": "<2"})


def cell(name: str, outcome: Outcome, loss: float = 0.5, *checks: Verdict) -> Record:
    """A record of one cell."""
    metrics = {"heldout_loss": loss, "seconds": 2.0 * loss, "process_peak_mb": 60.0}
    return Record(
        "20261129-101500-1234", name, "lora.yaml", "cpu", {}, outcome, "why it is so",
        checks=checks, metrics=metrics, run_dir=".tunematrix/versions/x",
    )  # fmt: skip


BEFORE = [
    cell("a[cpu]", "passed", 0.5, GOOD),
    cell("b[cpu]", "passed"),
    cell("c[cpu]", "failed", 0.5, BAD),
    cell("d[cpu]", "unavailable"),
    cell("e[cpu]", "passed"),
]
AFTER = [
    cell("a[cpu]", "failed", 0.5, BAD),
    cell("b[cpu]", "unavailable"),
    cell("c[cpu]", "passed", 0.5, GOOD),
    cell("d[cpu]", "passed"),
    cell("e[cpu]", "passed", 0.6),
]
SHOWN = """\
upgrade of cpu: trl 1.13.0 → 1.14.0, regex 1 → –
✗ a[cpu]: ✓ passed → ✗ failed
    first_loss: measured 0.07, bound <= 0.02, and before 0.01
    because the first loss is too low
    evidence: .tunematrix/versions/x
? b[cpu]: ✓ passed → ? unavailable
    why it is so
✓ c[cpu]: ✗ failed → ✓ passed
    before: why it is so
+ d[cpu]: ? unavailable → ✓ passed
    why it is so
figures that moved further than under the same seed:
  heldout_loss of e[cpu]: 0.5 → 0.6 nats/token (+20.0%, limit ±0.05)
time: × 1.20 (median of 1)
memory of the process: × 1.00 (median of 1)
known fault entered: losses are summed (noticed by labels)
    https://example.org/1
known fault, perhaps of the old versions too: seeds are shared
    https://example.org/3
known fault left: ranks are lost
    https://example.org/2
cells and relations: ✗ 1 broken   ? 1 lost   ✓ 1 fixed   + 1 gained   = 1 as
before
not safe: 2 broken or lost, 1 known fault entered
"""


def compare(before: list[Record], after: list[Record]) -> UpgradeComparison:
    """Compare, with a fault entered and one left."""
    return compared_sides(before, after, VERSIONS, FaultsMoved((ENTERED,), (LEFT,), (DOUBTFUL,)))


def test_a_terminal_of_80_columns_shows_all() -> None:
    """What breaks first, with its figure, bound and evidence; the verdict last."""
    text = render(comparison_text(compare(BEFORE, AFTER), "cpu"), 80, colour=False)
    assert text == SHOWN


def test_a_page_shows_all() -> None:
    """The verdict first; what is fixed, and the versions, folded."""
    page = comparison_page(compare(BEFORE, AFTER), "cpu")
    assert page.startswith("## ✗ Upgrade of `cpu`\n\nnot safe: 2 broken or lost")
    for text in (
        "first_loss: measured 0.07, bound <= 0.02, and before 0.01",
        "**Known fault entered:** `losses are summed (noticed by labels)` https://example.org/1",
        "**Known fault, perhaps of the old versions too:** `seeds are shared`",
        "heldout_loss of e[cpu]: 0.5 → 0.6",
        "<summary>✓ 1 fixed</summary>",
        "| `trl` | <code>1&#46;13&#46;0</code> | <code>1&#46;14&#46;0</code> |",
    ):
        assert text in page


def test_a_page_that_is_too_long_says_so() -> None:
    """And keeps its verdict."""
    many = [cell(f"{number}[cpu]", "passed") for number in range(200)]
    lost = [replace(one, outcome="error", reason="x" * 300) for one in many]
    page = comparison_page(compare(many, lost), "cpu", longest=8_000)
    assert len(page) <= 8_000 and "left out" in page and page.startswith("## ✗")


def test_of_many_items_the_rest_is_counted() -> None:
    """A terminal isn't flooded."""
    many = [cell(f"{number}[cpu]", "passed") for number in range(MOST + 5)]
    text = render(comparison_text(compare(many, []), "cpu"), 80, colour=False)
    assert "? and 5 more lost" in text


@pytest.mark.parametrize("hostile", ["\x1b[2J", "<script>x</script>", "@octocat", "`", "a\n# b"])
def test_nothing_foreign_is_obeyed(hostile: str) -> None:
    """Not by a terminal, nor by what renders a page."""
    planted = replace(BAD, message=hostile)
    comparison = compare(BEFORE, [cell("a[cpu]", "failed", 0.5, planted), *AFTER[1:]])
    text = render(comparison_text(comparison, "cpu"), 80, colour=False)
    assert "\x1b" not in text and "\n# b" not in text
    tokens = MarkdownIt().parse(comparison_page(comparison, "cpu"))
    assert [one.tag for one in tokens if one.type == "heading_open"] == ["h2"]
    html = "".join(one.content for one in tokens if one.type == "html_block")
    assert "script" not in html and "octocat" not in html


def test_what_fails_on_both_sides_is_counted() -> None:
    """Nothing breaks, and still not all is well."""
    text = count_line(compare(BEFORE[2:3], BEFORE[2:3]))
    assert text == "= 1 as before   (1 of them failing)"


def test_the_command_that_finds_the_release() -> None:
    """Names the first broken item, and the new versions of what is there."""
    command = bisect_command(compare(BEFORE, AFTER), "cpu")
    assert command == "tunematrix bisect 'a[cpu]' -e cpu --bad trl==1.14.0"
