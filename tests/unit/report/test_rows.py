from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import get_args

import pytest

from tunematrix.checks.bound import AtLeast, AtMost, Between, Bound, Exactly
from tunematrix.checks.verdict import Verdict
from tunematrix.report.rows import (
    SEVERITY,
    SYMBOLS,
    Place,
    Square,
    agreements,
    claimed_gap,
    counts,
    matrix,
    plain_first,
    reasons,
    runs,
)
from tunematrix.results.record import Option, Outcome, Record

GAP = Verdict("gap_closed", "passed", 0.9, AtLeast(0.8), "of the gap", "")
LORA = Place("cpu", "sft", "lora", "none")


def _record(outcome: Outcome = "passed", quantizer: str = "none", **metrics: float) -> Record:
    axes = {"recipe": "sft", "method": "lora", "quantizer": quantizer}
    checks = (GAP,) if "gap_closed" in metrics else ()
    return Record(
        "r",
        f"a[{quantizer}]",
        "a.yaml",
        "cpu",
        axes,
        outcome,
        checks=checks,
        metrics=metrics,
        backend="cpu",
    )


def _square(*records: Record) -> Square:
    return matrix(records)[LORA]


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
    assert matrix([record])[Place("", "-", "-", "-")].gap is None


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


def test_squares_stand_together_by_recipe_and_method() -> None:
    """In order of first appearance, quantizers as in each view; what wasn't planned is absent."""

    def cell(recipe: str, method: str, quantizer: str) -> Record:
        axes = {"recipe": recipe, "method": method, "quantizer": quantizer}
        return replace(_record(), axes=axes)

    cells = [
        cell("sft", "lora", "hqq-int4"),
        cell("dpo", "lora", "none"),
        cell("sft", "full", "none"),
        cell("sft", "lora", "none"),
        cell("sft", "full", "hqq-int4"),
    ]
    assert [place[1:] for place in matrix(cells)] == [
        ("sft", "lora", "none"),
        ("sft", "lora", "hqq-int4"),
        ("sft", "full", "none"),
        ("sft", "full", "hqq-int4"),
        ("dpo", "lora", "none"),
    ]
    names = ["mlx-int4", "bnb-nf4", "none", "bnb-int8", "-"]
    assert sorted(names, key=plain_first) == ["-", "none", "bnb-int8", "bnb-nf4", "mlx-int4"]


def test_runs_of_one_name_from_two_machines() -> None:
    """They are two; what never ran knows its machine by half, and is of the first."""
    ours = replace(_record(), versions={"torch": "2.13"}, machine={"hardware": "Xeon", "cores": 2})
    theirs = replace(ours, machine={"hardware": "EPYC", "cores": 2})
    other = replace(ours, machine={**ours.machine, "device": "cpu"}, versions={"torch": "2.12"})
    never = replace(ours, machine={"system": "Linux"}, versions={})
    found = runs([never, ours, theirs, other, never])
    assert [(one.hardware, len(one.records)) for one in found] == [("Xeon", 4), ("EPYC", 1)]
    assert [len(one.records) for one in runs([never, never])] == [2]


def test_two_backends_share_no_square() -> None:
    """An environment may have both."""
    places = list(matrix([_record(), replace(_record(), backend="mlx")]))
    assert places == [LORA, LORA._replace(backend="mlx")]


def test_matrix_of_nothing() -> None:
    """No records, no rows."""
    assert matrix([]) == {}


RUN_ID = "20261128-141907-05ae"
HOST = {"system": "Linux", "architecture": "x86_64", "hardware": "Xeon", "python": "3.11.7"}


def test_runs_are_parted() -> None:
    """By environment and run, so that no two machines are added up."""
    mine, other = (replace(_record(), run_id=run_id) for run_id in (RUN_ID, "20261129-101500-1"))
    elsewhere = replace(mine, environment="mlx")
    parts = runs([mine, elsewhere, other, mine])
    assert [(part.environment, part.id, len(part.records)) for part in parts] == [
        ("cpu", RUN_ID, 2),
        ("mlx", RUN_ID, 1),
        ("cpu", "20261129-101500-1", 1),
    ]


def test_what_a_run_is_known_by() -> None:
    """Day and time by its name; machine and versions by a cell that ran."""
    skipped = replace(_record("unsupported"), run_id=RUN_ID, machine={"system": "Linux"})
    versions = {"numpy": "2", "trl": "1.16.0", "torch": "2.13.0"}
    ran = replace(_record(), run_id=RUN_ID, machine=HOST, versions=versions)
    relation = replace(ran, arms=("x", "y"))
    (run,) = runs([skipped, ran, relation])
    assert (run.date, run.time) == ("2026-11-28", "14:19")
    assert (run.hardware, run.system) == ("Xeon", "Linux x86_64, Python 3.11.7")
    assert list(run.named_versions.items()) == [("torch", "2.13.0"), ("trl", "1.16.0")]
    assert (run.cells, run.relations) == ((skipped, ran), (relation,))


def test_a_gpu_is_the_hardware_where_there_is_one() -> None:
    """The processor beside it says little."""
    (run,) = runs([replace(_record(), machine={**HOST, "gpu": "NVIDIA H200"}, versions={"a": "1"})])
    assert run.hardware == "NVIDIA H200"


def test_a_run_of_which_nothing_is_known() -> None:
    """Its name and its machine may be anything."""
    (run,) = runs([_record()])
    assert (run.date, run.time, run.system, run.hardware) == ("", "", "", "unknown hardware")


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
    groups = reasons(records, ["unsupported", "known_failure"])
    assert list(groups.items()) == [
        (("unsupported", "no gradient", "https://a"), ("a", "c")),
        (("unsupported", "no gradient", "https://d"), ("d",)),
        (("known_failure", "no gradient", "https://a"), ("e",)),
    ]
    assert list(reasons(records, ["unavailable"])) == [("unavailable", "no kernel", "")]


def _relation(*checks: Verdict, outcome: Outcome = "passed") -> Record:
    axes: dict[str, Option] = {"method": ("lora", "full"), "quantizer": "none"}
    return Record("r", "a[cpu]", "a.yaml", "cpu", axes, outcome, checks=checks, arms=("x", "y"))


def _same(measured: float | None, bound: Bound | None) -> Verdict:
    passed = bound is not None and bound.holds(measured)
    return Verdict("same_losses", "passed" if passed else "failed", measured, bound, "", "")


def test_relations_are_in_no_square() -> None:
    """A square is about cells."""
    assert matrix([_relation()]) == {}
    assert agreements([_record()]) == ()


@pytest.mark.parametrize(
    ("checks", "nearest", "slack"),
    [
        ([(1e-9, AtMost(1e-6)), (1e-7, AtMost(1e-6)), (0.0, AtMost(1e-6))], 1, 0.9),
        ([(0.5, AtMost(1)), (1e-9, AtMost(1e-10)), (0.9, AtMost(1))], 1, -9.0),
        ([(0.0, AtMost(0))], 0, None),
        ([(0.3, Between(0.2, 0.4)), (0.1, AtMost(0.2))], 1, 0.5),
        ([(0.3, Between(0.2, 0.4))], 0, 1.0),
        ([(1e-9, AtMost(1)), (None, None)], 1, None),
    ],
)
def test_the_check_nearest_to_its_bound(
    checks: list[tuple[float | None, Bound | None]], nearest: int, slack: float | None
) -> None:
    """One that failed before all others; else the one with the least room."""
    verdicts = [_same(measured, bound) for measured, bound in checks]
    (row,) = agreements([_relation(*verdicts)])
    assert row.check == verdicts[nearest]
    assert row.slack == (None if slack is None else pytest.approx(slack))


def test_a_relation_that_compared_nothing() -> None:
    """There is a row all the same; a warning of another name is no comparison."""
    aged = Verdict("tolerances", "warned", "2026-01-02", Exactly("of these versions"), "", "old")
    (row,) = agreements([_relation(aged, outcome="error")])
    assert (row.outcome, row.id, row.check, row.slack) == ("error", "a[cpu]", None, None)
