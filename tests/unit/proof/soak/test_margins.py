from __future__ import annotations

import json

import pytest

from tunematrix.checks.bound import AtMost
from tunematrix.checks.verdict import Verdict
from tunematrix.matrix.cells import display_id
from tunematrix.proof.soak.margins import soak
from tunematrix.results.record import Outcome, Record


def check(measured: float | str | None, name: str = "reload") -> Verdict:
    """A check that passed, and may measure 1 at most."""
    return Verdict(name, "passed", measured, AtMost(1), "logits", "")


def record(name: str, seed: int | None, outcome: Outcome = "passed", *checks: Verdict) -> Record:
    """A record of a cell under a seed."""
    return Record(
        run_id="r", cell_id=display_id(name, seed, ""), base_id=name, seed=seed, spec="s",
        environment="cpu", axes={}, outcome=outcome, checks=checks,
    )  # fmt: skip


def test_an_outcome_that_changed() -> None:
    """By the seeds of each outcome."""
    found = soak([record("a[cpu]", 0), record("a[cpu]", 1, "failed"), record("b[cpu]", 0)])
    assert found.changed == {"a[cpu]": {"passed": ["0"], "failed": ["1"]}}
    assert (found.seeds, found.cells, found.runs) == (2, 2, 3)


def test_the_same_outcome_throughout_is_no_change() -> None:
    """Whatever it is."""
    rows = [record("a[cpu]", seed, "known_failure") for seed in range(3)]
    assert soak(rows).changed == {}


def test_the_worst_run_of_each_check() -> None:
    """What is known to fail has no margin."""
    rows = [
        record("a[cpu]", 0, "passed", check(0.1), check(0.1, "merge")),
        record("a[cpu]", 1, "passed", check(0.9)),
        record("b[cpu]", 0, "known_failure", check(5.0)),
    ]
    worst, other = soak(rows).margins
    assert (worst.check, worst.cell, worst.runs) == ("reload", "a[cpu]@1", 2)
    assert worst.slack == pytest.approx(0.1)
    assert other.check == "merge"


def test_what_was_not_run_under_seeds_is_left_out() -> None:
    """It says nothing about seeds."""
    assert soak([record("a[cpu]", None), record("b[cpu]", 0)]).cells == 1


def test_where_each_has_a_seed_of_its_own() -> None:
    """Variations aren't run under several: each is a run."""
    found = soak([record("a[cpu]", None), record("b[cpu]", None)])
    assert (found.cells, found.runs, found.changed) == (2, 2, {})


def test_what_has_no_margin() -> None:
    """A count, a text, nothing at all, and what isn't finite."""
    checks = (check(one) for one in (1, "cpu", None, float("nan")))
    assert soak([record("a[cpu]", 0, "passed", *checks)]).margins == ()


def test_as_plain_data() -> None:
    """The bound stays data."""
    (margin,) = json.loads(
        json.dumps(soak([record("a[cpu]", 0, "passed", check(0.25))]).to_json())
    )["margins"]
    assert (margin["slack"], margin["bound"]["kind"], margin["bound"]["limit"]) == (
        0.75,
        "at_most",
        1,
    )
