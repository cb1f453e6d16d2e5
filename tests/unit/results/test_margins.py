from __future__ import annotations

from dataclasses import replace

import pytest

from tunematrix.checks.verdict import Verdict
from tunematrix.results.margins import slack, soak
from tunematrix.results.record import Outcome, Record


def check(measured: float | str | None, bound: str, name: str = "reload") -> Verdict:
    """A check that passed."""
    return Verdict(name, "passed", measured, bound, "logits", "")


def record(cell_id: str, outcome: Outcome = "passed", *checks: Verdict) -> Record:
    """A record of a cell under a seed."""
    return Record(
        run_id="r", cell_id=cell_id, spec="s", environment="cpu", axes={}, outcome=outcome,
        checks=checks,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("measured", "bound", "left"),
    [
        (0.25, "<= 1", 0.75),
        (3e-9, "<= 2e-09 in each of 40 steps", -0.5),
        (1.5, ">= 1", pytest.approx(1 / 3)),
        (0.06, ">= 0.0001", pytest.approx(1 - 1 / 600)),
        (0.5, ">= 1", -0.5),
        (0.93, "0.91 to 1", pytest.approx(0.02 / 0.045)),
        (0.0, "0 to 1e-06 for norm, the worst of 21 tensors", 1.0),
        (13.83001, "13.83 within 0.01%", pytest.approx(1 - 1e-5 / 1.383e-3)),
        (8.04, "8.000 within 1%, the worst of 14 layers", pytest.approx(0.5)),
        (1.0005, "1 within 0.001", pytest.approx(0.5)),
    ],
)
def test_slack(measured: float, bound: str, left: float) -> None:
    """A share of the bound, or of half a range."""
    assert slack(check(measured, bound)) == pytest.approx(left)


@pytest.mark.parametrize(
    ("measured", "bound"),
    [
        (None, "<= 1"),
        ("cpu", "cpu"),
        (float("nan"), "<= 1"),
        (1.0, "14"),
        (0.0, "<= 0"),
        (2, ">= 2"),
    ],
)
def test_no_slack(measured: float | str | None, bound: str) -> None:
    """No figure, or a bound in words, or one of 0, or a count."""
    assert slack(check(measured, bound)) is None


def test_an_outcome_that_changed() -> None:
    """By the seeds of each outcome."""
    found = soak([record("a[cpu]@0"), record("a[cpu]@1", "failed"), record("b[cpu]@0")])
    assert found.changed == {"a[cpu]": {"passed": ["0"], "failed": ["1"]}}
    assert (found.seeds, found.cells, found.runs) == (2, 2, 3)


def test_the_same_outcome_throughout_is_no_change() -> None:
    """Whatever it is."""
    rows = [record(f"a[cpu]@{seed}", "known_failure") for seed in range(3)]
    assert soak(rows).changed == {}


def test_the_worst_run_of_each_check() -> None:
    """What is known to fail has no margin."""
    rows = [
        record("a[cpu]@0", "passed", check(0.1, "<= 1"), check(0.1, "<= 1", "merge")),
        record("a[cpu]@1", "passed", check(0.9, "<= 1")),
        record("b[cpu]@0", "known_failure", check(5.0, "<= 1")),
    ]
    worst, other = soak(rows).margins
    assert (worst.check, worst.cell, worst.runs) == ("reload", "a[cpu]@1", 2)
    assert worst.slack == pytest.approx(0.1)
    assert other.check == "merge"


def test_what_was_not_run_under_seeds_is_left_out() -> None:
    """It says nothing about seeds."""
    assert soak([replace(record("a[cpu]@0"), cell_id="a[cpu]")]).cells == 0
