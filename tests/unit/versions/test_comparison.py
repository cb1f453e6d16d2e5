"""What two sides' records tell apart: planted differences are told, honest runs differ in none."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tunematrix.checks.bound import AtMost
from tunematrix.checks.verdict import Verdict
from tunematrix.errors import ExitCode
from tunematrix.report.past import Moved
from tunematrix.results.record import Outcome, Record
from tunematrix.results.store import Store
from tunematrix.versions.comparison import Turn, UpgradeComparison, compared_sides
from tunematrix.versions.released_faults import FaultsMoved, ReleasedFault

COMMITTED = Path(__file__).parents[3] / "docs/verified"
HONEST = Path(__file__).with_name("honest_runs.json")
VERSIONS = [Moved("trl", "1.15.0", "1.16.0")]
NONE = FaultsMoved()
LOSS = {"heldout_loss": 0.6, "stored_mb": 4.0, "allocator_peak_mb": 40.0, "process_peak_mb": 60.0}
GOOD = Verdict("first_loss", "passed", 0.01, AtMost(0.02), "", "")
BAD = replace(GOOD, outcome="failed", measured=0.07, message="the first loss is too low")
OTHER = replace(BAD, name="gap_closed")


def cell(
    outcome: Outcome = "passed",
    *checks: Verdict,
    name: str = "lora[cpu-lora-none]",
    metrics: Mapping[str, float] = LOSS,
    arms: tuple[str, ...] = (),
) -> Record:
    """A record of one cell."""
    reason = "" if outcome == "passed" else "why"
    return Record(
        "20261129-101500-1234", name, "lora.yaml", "cpu", {}, outcome, reason,
        checks=checks, metrics=metrics, arms=arms,
    )  # fmt: skip


def compare(before: Record | None, after: Record | None, *others: Record) -> UpgradeComparison:
    """Compare one item, beside others that are the same on both sides."""
    old, new = ([*([one] if one else []), *others] for one in (before, after))
    return compared_sides(old, new, VERSIONS, NONE)


@pytest.mark.parametrize(
    ("before", "after", "turn", "code"),
    [
        (cell("passed", GOOD), cell("passed", GOOD), "same", 0),
        (cell("passed", GOOD), cell("failed", BAD), "broken", 1),
        (cell("passed", GOOD), cell("error"), "broken", 1),
        (cell("passed", GOOD), cell("known_failure", BAD), "broken", 1),
        (cell("passed", GOOD), cell("unavailable"), "lost", 1),
        (cell("passed", GOOD), None, "lost", 1),
        (cell("failed", BAD), cell("passed", GOOD), "fixed", 0),
        (cell("error"), cell("passed", GOOD), "fixed", 0),
        (cell("known_failure", BAD), cell("passed", GOOD), "fixed", 0),
        # Expected to fail, and it passed: the releases are right, the spec is out of date.
        (cell("known_failure", BAD), cell("failed", GOOD), "fixed", 0),
        (cell("failed", GOOD), cell("known_failure", BAD), "broken", 1),
        (cell("failed", GOOD), cell("failed", GOOD), "same", 0),
        (cell("known_failure", BAD), cell("known_failure", BAD), "same", 0),
        (cell("known_failure", BAD), cell("failed", BAD, OTHER), "broken", 1),
        (cell("failed", BAD), cell("failed", OTHER), "broken", 1),
        (cell("failed", BAD, OTHER), cell("failed", BAD), "other", 0),
        (cell("failed", BAD), cell("failed", BAD), "same", 0),
        (cell("error"), cell("error"), "same", 0),
        (cell("failed", BAD), cell("unavailable"), "other", 5),
        (cell("unavailable"), cell("passed", GOOD), "gained", 5),
        (cell("unavailable"), cell("failed", BAD), "gained", 5),
        (None, cell("passed", GOOD), "gained", 5),
        (cell("unavailable"), cell("unavailable"), "same", 5),
        (cell("passed", GOOD, OTHER), cell("passed", GOOD), "other", 0),
        (cell("passed", GOOD), cell("passed", replace(GOOD, outcome="warned")), "other", 0),
    ],
)
def test_what_becomes_of_an_item(
    before: Record | None, after: Record | None, turn: Turn, code: int
) -> None:
    """By what the releases do, not by what a spec expects of today's."""
    comparison = compare(before, after)
    (item,) = comparison.turns
    assert item.turn == turn
    assert comparison.exit_code == code
    assert comparison.is_safe == (code == 0)


@pytest.mark.parametrize(
    ("runs", "turn"),
    [
        ([cell("failed", BAD), cell("passed", GOOD)], "flaky"),
        ([cell("passed", GOOD), cell("failed", BAD)], "flaky"),
        ([cell("failed", BAD), cell("failed", BAD)], "broken"),
        ([cell("error"), cell("failed", BAD)], "broken"),
        ([cell("passed", GOOD), cell("passed", GOOD)], "same"),
    ],
)
def test_what_is_broken_now_and_then(runs: list[Record], turn: Turn) -> None:
    """Of several runs with the new releases one is broken and another isn't: not safe either."""
    before = [cell("passed", GOOD)]
    told = compared_sides(before, runs[-1:], VERSIONS, NONE, repeats={runs[0].cell_id: runs})
    (item,) = told.turns
    assert item.turn == turn
    assert told.exit_code == (0 if turn == "same" else 1)
    assert item.after is not None and (item.after.outcome == "passed") == (turn == "same")


def test_a_relation_fails_with_its_arm() -> None:
    """It has no failed check of its own then; but one whose arms work only lacks its failure."""
    arm = cell("passed", GOOD, name="arm")
    relation = cell("passed", GOOD, name="same[cpu]", arms=("arm",), metrics={})
    failed = replace(relation, outcome="failed", reason="arm failed")
    with_arm = compared_sides([relation, arm], [failed, cell("failed", BAD, name="arm")], (), NONE)
    assert [one.turn for one in with_arm.turns] == ["broken", "broken"]
    alone = compared_sides([relation], [failed], (), NONE)
    assert [one.turn for one in alone.turns] == ["broken"]
    known = replace(relation, outcome="known_failure", checks=(BAD,))
    mended = compared_sides([known, arm], [failed, arm], (), NONE)
    assert [one.turn for one in mended.turns] == ["fixed", "same"]


def test_the_checks_that_end_otherwise_are_told() -> None:
    """With both verdicts; what was recorded under one side's versions isn't held against both."""
    band = replace(GOOD, name="baseline_heldout_loss")
    table = replace(GOOD, name="tolerances", outcome="warned")
    (item,) = compare(cell("passed", GOOD, band), cell("failed", BAD, table)).turns
    ((name, before, after),) = [(one.name, one.before, one.after) for one in item.checks]
    assert (name, before, after) == ("first_loss", GOOD, BAD)


@pytest.mark.parametrize(
    ("metric", "figure", "is_told"),
    [
        ("heldout_loss", 0.6 * 1.09, False),
        ("heldout_loss", 0.6 * 1.11, True),
        ("heldout_loss", 0.6 * 0.89, True),
        ("heldout_loss", float("nan"), True),
        ("stored_mb", 4.003, False),
        ("stored_mb", 4.01, True),
        ("allocator_peak_mb", 40.3, False),
        ("allocator_peak_mb", 41.0, True),
        ("process_peak_mb", 85.0, False),
        ("process_peak_mb", 95.0, True),
        ("seconds", 100.0, False),
    ],
)
def test_a_figure_that_moves(metric: str, figure: float, is_told: bool) -> None:
    """Beyond what it may be off under the same seed, and no less; and it breaks nothing."""
    comparison = compare(cell(), cell(metrics={**LOSS, metric: figure}))
    assert [one.metric for one in comparison.figures] == ([metric] if is_told else [])
    assert comparison.exit_code == ExitCode.PASSED


def test_a_figure_that_is_not_measured_any_more() -> None:
    """Is told: nothing watches it now."""
    less = {name: figure for name, figure in LOSS.items() if name != "heldout_loss"}
    (figure,) = compare(cell(), cell(metrics=less)).figures
    assert (figure.metric, figure.after) == ("heldout_loss", None)


def test_figures_of_what_fails_are_not_compared() -> None:
    """Its failure says more."""
    worse = cell("failed", BAD, metrics={**LOSS, "heldout_loss": 6.0})
    assert compare(cell(), worse).figures == ()


def test_a_known_fault_that_is_entered_is_not_safe() -> None:
    """Even where the cells that were run don't see it."""
    fault = ReleasedFault("https://example.org", "gradients are summed", {"trl": "==1.16.0"})
    entered = compared_sides([cell()], [cell()], VERSIONS, FaultsMoved(entered=(fault,)))
    assert entered.exit_code == ExitCode.FAILED and not entered.is_safe
    left = compared_sides([cell()], [cell()], VERSIONS, FaultsMoved(left=(fault,)))
    assert left.exit_code == ExitCode.PASSED and left.is_safe


def test_nothing_compared_is_not_safe() -> None:
    """Green means tested."""
    nothing = compared_sides([], [], VERSIONS, NONE)
    assert nothing.exit_code == ExitCode.NOTHING_TESTED and not nothing.is_safe


@pytest.mark.parametrize("backend", ["cpu", "mlx"])
def test_two_machines_with_the_same_versions(backend: str) -> None:
    """Hundreds of real cells and relations: none becomes anything else, and no check does."""
    sides = [Store(file).read() for file in COMMITTED.glob(f"{backend}-*.jsonl")]
    # What the suite had on one of those days alone can't be compared.
    both = set.intersection(*({one.cell_id for one in side} for side in sides))
    old, new = ([one for one in side if one.cell_id in both] for side in sides)
    assert len(both) > 80
    comparison = compared_sides(old, new, (), NONE)
    assert {one.turn for one in comparison.turns} == {"same"}
    assert comparison.is_safe


def test_runs_of_the_same_set() -> None:
    """Of seven pairs of real smoke runs, seventy pairs of cells, no figure counts as moved.

    On a busy machine: of one pair, the median cell took 2.3 times as long.
    """
    pairs = [
        (old["cells"], new["cells"])
        for old, new in itertools.combinations(json.loads(HONEST.read_text()), 2)
        if old["transformers"] == new["transformers"]
    ]
    assert len(pairs) == 7
    for pair in pairs:
        old, new = (
            [cell("passed", name=name, metrics=figures) for name, figures in run.items()]
            for run in pair
        )
        comparison = compared_sides(old, new, (), NONE)
        assert (len(comparison.of("same")), comparison.figures) == (10, ())


@pytest.mark.each_time(10)
@pytest.mark.parametrize("number", range(20))
def test_a_planted_difference_is_the_one_that_is_told(number: int) -> None:
    """In each of twenty real cells: a failed check, and nothing of the others."""
    records = Store(min(COMMITTED.glob("cpu-*.jsonl"))).read()
    passed = [one for one in records if one.outcome == "passed" and one.metrics.get("stored_mb")]
    chosen = passed[number * len(passed) // 20]
    wrong = replace(chosen.checks[number % len(chosen.checks)], outcome="failed", message="planted")
    checks = tuple(wrong if one.name == wrong.name else one for one in chosen.checks)
    broken = replace(chosen, outcome="failed", checks=checks, reason="planted")
    after = [broken if one is chosen else one for one in records]
    comparison = compared_sides(records, after, (), NONE)
    (item,) = comparison.of("broken")
    assert item.id == chosen.cell_id
    assert [one.name for one in item.checks] == [wrong.name]
    assert len(comparison.of("same")) == len(records) - 1
    assert not comparison.is_safe
