from __future__ import annotations

import math
from itertools import pairwise
from typing import get_args

import pytest

from tunematrix.checks.verdict import Verdict
from tunematrix.report.rows import (
    SEVERITY,
    SYMBOLS,
    Square,
    agreements,
    claimed_gap,
    counts,
    matrix,
    reasons,
)
from tunematrix.results.record import Outcome, Record

GAP = Verdict("gap_closed", "passed", 0.9, ">= 0.8", "share", "")


def _record(outcome: Outcome = "passed", quantizer: str = "none", **metrics: float) -> Record:
    axes = {"method": "lora", "quantizer": quantizer}
    checks = (GAP,) if "gap_closed" in metrics else ()
    name = f"a[{quantizer}]"
    return Record("r", name, "a.yaml", "cpu", axes, outcome, checks=checks, metrics=metrics)


def _square(*records: Record) -> Square:
    return matrix(records).squares[("lora", "none")]


def test_every_outcome_has_a_rank_and_a_symbol_of_its_own() -> None:
    """A new outcome can't be left out of the picture."""
    assert set(SEVERITY) == set(SYMBOLS) == set(get_args(Outcome))
    assert len(set(SYMBOLS.values())) == len(SYMBOLS)


def test_errors_are_the_worst_and_what_was_not_run_the_least() -> None:
    """Whatever must not be overlooked comes before what passed."""
    assert SEVERITY[:3] == ("error", "failed", "unavailable")
    assert SEVERITY[-2:] == ("passed", "unsupported")


@pytest.mark.parametrize(("worse", "better"), list(pairwise(SEVERITY)))
def test_the_worst_outcome_wins(worse: Outcome, better: Outcome) -> None:
    """In whatever order the cells of a square ended, and however many were better."""
    for order in ((worse, better, better), (better, better, worse)):
        square = _square(*(_record(outcome) for outcome in order))
        assert square.outcome == worse
        assert square.counts == {worse: 1, better: 2}


def test_extremes() -> None:
    """The longest cell, the largest growth, the smallest share: each from another cell."""
    square = _square(
        _record(seconds=1.0, process_peak_mb=9.0, gap_closed=0.9),
        _record(seconds=3.0, process_peak_mb=2.0, gap_closed=0.95),
        _record(seconds=2.0, gap_closed=0.8),
        _record("unsupported"),
    )
    assert (square.seconds, square.peak_mb, square.gap) == (3.0, 9.0, 0.8)


def test_a_gap_that_nobody_claims_is_not_shown() -> None:
    """A few steps of a memory cell say nothing about convergence."""
    record = Record("r", "a", "a.yaml", "cpu", {}, "passed", metrics={"gap_closed": -0.25})
    assert claimed_gap(record) is None
    assert matrix([record]).squares[("-", "-")].gap is None


def test_extremes_of_nothing() -> None:
    """Cells that never ran have no figures."""
    square = _square(_record("unsupported"))
    assert (square.seconds, square.peak_mb, square.gap) == (None, None, None)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_nan_is_the_extreme(position: int) -> None:
    """A cell whose loss diverged isn't hidden behind those whose didn't."""
    gaps = [0.9, 0.8, 0.95]
    gaps[position] = math.nan
    gap = _square(*(_record(gap_closed=gap) for gap in gaps)).gap
    assert gap is not None and math.isnan(gap)


def test_methods_and_quantizers_in_order_of_appearance() -> None:
    """Pairs that weren't planned are absent, and so is what a record doesn't have."""
    other = Record("r", "b", "b.yaml", "cpu", {"method": "full"}, "passed")
    found = matrix([_record(quantizer="hqq-int4"), other, _record(quantizer="none")])
    assert found.methods == ("lora", "full")
    assert found.quantizers == ("hqq-int4", "-", "none")
    assert set(found.squares) == {("lora", "hqq-int4"), ("full", "-"), ("lora", "none")}


def test_matrix_of_nothing() -> None:
    """No records, no rows."""
    found = matrix([])
    assert (found.methods, found.quantizers, found.squares) == ((), (), {})


def test_counts_worst_first() -> None:
    """Zeros are left out."""
    records = [_record(outcome) for outcome in ("passed", "failed", "passed", "unsupported")]
    assert list(counts(iter(records)).items()) == [("failed", 1), ("passed", 2), ("unsupported", 1)]


def test_reasons_are_grouped() -> None:
    """By outcome, reason and link together, in order of appearance."""

    def no(cell: str, outcome: Outcome, reason: str, link: str = "") -> Record:
        return Record("r", cell, "a.yaml", "cpu", {}, outcome, reason, link)

    records = [
        no("a", "unsupported", "no gradient", "https://a"),
        no("b", "unavailable", "no kernel"),
        no("c", "unsupported", "no gradient", "https://a"),
        no("d", "unsupported", "no gradient", "https://d"),
        no("e", "known_failure", "no gradient", "https://a"),
    ]
    assert reasons(records) == (
        (("unsupported", "no gradient", "https://a"), ("a", "c")),
        (("unavailable", "no kernel", ""), ("b",)),
        (("unsupported", "no gradient", "https://d"), ("d",)),
        (("known_failure", "no gradient", "https://a"), ("e",)),
    )


def test_reasons_of_what_passed_or_failed() -> None:
    """Those that passed have none, and those that failed are told one by one."""
    outcomes: tuple[Outcome, ...] = ("passed", "failed", "error")
    assert reasons(_record(outcome) for outcome in outcomes) == ()


def _relation(*checks: Verdict, outcome: Outcome = "passed") -> Record:
    axes = {"method": "lora|full", "quantizer": "none"}
    return Record("r", "a[cpu]", "a.yaml", "cpu", axes, outcome, checks=checks, arms=("x", "y"))


def _same(measured: float | None, bound: str, name: str = "same_losses") -> Verdict:
    outcome = "failed" if measured is None or measured > float(bound.split()[-1]) else "passed"
    return Verdict(name, "failed" if outcome == "failed" else "passed", measured, bound, "", "")


def test_relations_are_in_no_square() -> None:
    """A square is about cells."""
    assert matrix([_relation()]).squares == {}
    assert agreements([_record()]) == ()


@pytest.mark.parametrize(
    ("checks", "nearest", "margin"),
    [
        ([(1e-9, "<= 1e-06"), (1e-7, "<= 1e-06"), (0.0, "<= 1e-06")], 1, 10.0),
        ([(0.5, "<= 1"), (1e-9, "<= 1e-10"), (0.9, "<= 1")], 1, 0.1),
        ([(0.0, "<= 0")], 0, math.inf),
        ([(0.3, "0.2 to 0.4"), (0.1, "<= 0.2")], 1, 2.0),
        ([(0.3, "0.2 to 0.4")], 0, None),
        ([(1e-9, "<= 1"), (None, "a record of 1")], 1, None),
    ],
)
def test_the_check_nearest_to_its_bound(
    checks: list[tuple[float | None, str]], nearest: int, margin: float | None
) -> None:
    """One that failed before all others; else the one with the least room."""
    verdicts = [_same(measured, bound) for measured, bound in checks]
    (row,) = agreements([_relation(*verdicts)])
    assert row.check == verdicts[nearest]
    assert row.margin == (None if margin is None else pytest.approx(margin))


def test_a_relation_that_compared_nothing() -> None:
    """There is a row all the same; a warning of another name is no comparison."""
    aged = Verdict("tolerances", "warned", "2026-01-02", "of these versions", "", "old")
    (row,) = agreements([_relation(aged, outcome="error")])
    assert (row.outcome, row.id, row.check, row.margin) == ("error", "a[cpu]", None, None)
