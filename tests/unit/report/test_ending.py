from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.report.shown import WARNED

from tunematrix.report.ending import HEIGHT, ending
from tunematrix.report.terminal import render
from tunematrix.results.record import Outcome, Record
from tunematrix.results.store import Store

RUN_ID = "20261128-141907-05ae"
LONG = "moved: 3 of 4 trained tensors never moved; likely a rate of 0 " * 20
AGAIN = "nox -s cpu -- 'configs/specs/lora.yaml::{}'"


def record(name: str, outcome: Outcome = "passed", reason: str = "") -> Record:
    """A record of one cell."""
    return Record(RUN_ID, f"{name}[cpu]", "a.yaml", "cpu", {}, outcome, reason)


def lines(records: Sequence[Record], failed: Sequence[Record] = (), width: int = 80) -> list[str]:
    """The lines of a terminal, of which one that is too long takes several."""
    again = {one.cell_id: AGAIN.format(one.cell_id) for one in failed}
    text = render(ending(records, failed, again, width), width, colour=False)
    return [
        line[start : start + width]
        for line in text.splitlines()
        for start in range(0, max(len(line), 1), width)
    ]


def test_a_run_in_which_nothing_failed() -> None:
    """Counts, the run and its date, and where to see all of it."""
    assert lines([record("a"), record("b")]) == [
        "cells: ✓ 2 passed",
        f"run {RUN_ID}, 2026-11-28 14:19",
        "more: tunematrix report -e cpu",
    ]


def test_warnings_are_counted() -> None:
    """Beside the outcomes, with what shows them."""
    assert lines([replace(record("a"), checks=(WARNED,)), record("b")]) == [
        "cells: ✓ 2 passed   1 warning",
        f"run {RUN_ID}, 2026-11-28 14:19",
        "more: tunematrix report -e cpu; with --all, what is warned of",
    ]


def test_a_run_that_was_interrupted() -> None:
    """How far it came stands above the counts, unless nobody knows how far it was to come."""
    ran = [replace(record(name), planned=16) for name in "ab"]
    exclusion = record("c", "unsupported")
    assert lines([*ran, exclusion])[:2] == [
        "interrupted: 2 of 16 ran",
        "cells: ✓ 2 passed   · 1 unsupported",
    ]
    assert lines([replace(one, planned=2) for one in ran])[0] == "cells: ✓ 2 passed"


@pytest.mark.parametrize(
    ("left_out", "line"),
    [
        (1, "1 nightly cell was left out; -m nightly runs it"),
        (12, "12 nightly cells were left out; -m nightly runs them"),
    ],
)
def test_how_many_nightly_cells_were_left_out(left_out: int, line: str) -> None:
    """In one line, with what runs them."""
    text = render(ending([record("a")], [], {}, 80, left_out), 80, colour=False)
    assert line in text.splitlines()


def test_what_failed_comes_first() -> None:
    """In the order in which it ended: id, reason, and the command that repeats it."""
    failed = [record("b", "failed", "moved: 1 of 4"), record("a", "error", "no space left")]
    assert lines([record("c"), *failed], failed)[:7] == [
        "✗ b[cpu]",
        "  moved: 1 of 4",
        "  nox -s cpu -- 'configs/specs/lora.yaml::b[cpu]'",
        "! a[cpu]",
        "  no space left",
        "  nox -s cpu -- 'configs/specs/lora.yaml::a[cpu]'",
        "cells: ! 1 error   ✗ 1 failed   ✓ 1 passed",
    ]


def test_known_failures_and_exclusions_are_counted_alone() -> None:
    """Why, is said on request, and how to ask for it is said here."""
    records = [
        record("a", "known_failure", "a known bug"),
        record("b", "unsupported", "no gradient"),
        replace(record("c"), arms=("x", "y")),
    ]
    assert lines(records) == [
        "cells: ≈ 1 known failure   · 1 unsupported",
        "relations: ✓ 1 passed",
        f"run {RUN_ID}, 2026-11-28 14:19",
        "more: tunematrix report -e cpu; with --all, why cells are unsupported or known",
        "to fail",
    ]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 40])
@pytest.mark.parametrize("reason", ["moved: 1 of 4", LONG, "a\n" * 60])
def test_it_fits_a_screen(width: int, count: int, reason: str) -> None:
    """However much failed: the first in full, and how many more there are."""
    failed = [record(f"a{number}", "failed", reason) for number in range(count)]
    unavailable = [record(f"b{number}", "unavailable", f"{number}: {LONG}") for number in range(9)]
    others = [record("c", "known_failure"), replace(record("d"), arms=("x",))]
    shown = lines([*failed, *unavailable, *others], failed, width)
    # With pytest's line above and below, and the prompt.
    assert len(shown) <= HEIGHT - 3
    assert shown[0] == "✗ a0[cpu]"
    in_full = sum(line.startswith("✗ a") for line in shown)
    rest = [line for line in shown if line.startswith("and ")]
    assert in_full >= min(count, 3)
    assert rest == (
        [f"and {count - in_full} more failed: tunematrix report -e cpu"] if in_full < count else []
    )


def test_why_cells_could_not_run() -> None:
    """It is said, each reason once, since somebody may have thought that they would."""
    records = [record(name, "unavailable", "there is no GPU") for name in "ab"]
    assert lines(records)[0] == "? unavailable ×2: there is no GPU"
    failed = records[:1]
    assert lines(records, failed)[3] == "? unavailable ×1: there is no GPU"
    long = record("a", "unavailable", LONG)
    assert lines([long])[0] == "why cells are unavailable: tunematrix report -e cpu"


def test_an_ending_of_real_records() -> None:
    """Those of a whole suite, a part of which has failed."""
    (file,) = (Path(__file__).parents[3] / "docs/verified").glob("cpu-*amd-epyc.jsonl")
    records = sorted(Store(file).read(), key=lambda one: len(one.arms))
    failed = [replace(one, outcome="failed", reason=LONG) for one in records[:30]]
    shown = lines([*failed, *records[30:]], failed)
    assert len(shown) <= HEIGHT - 3
    assert any(line.startswith("cells: ✗ 30 failed") for line in shown)
