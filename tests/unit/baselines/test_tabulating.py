"""Which runs give a row of a table of tolerances, and which are refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.baselines.relation_records import MACHINE, VERSIONS, record, refusal, seeds

from tunematrix.baselines.tolerances import LEAST_SEEDS, Tolerances, tabulate_all, write_tolerances
from tunematrix.checks.bound import AtMost, Exactly
from tunematrix.checks.verdict import Verdict
from tunematrix.errors import BadInput, NothingTested
from tunematrix.results.record import Record


def test_a_table_of_the_largest_differences(tmp_path: Path) -> None:
    """By relation, without the seed, and by check; with all that they depend upon."""
    (table,) = tabulate_all(seeds(), tmp_path)
    assert table == Tolerances(
        recorded="2026-12-24",
        hardware="cpu-x86_64",
        seeds=20,
        threads=2,
        versions={"torch": "2.13.0", "mlx": "0.32.4"},
        spread={"a[cpu]": {"same_gradients": 1e-7}},
    )


def test_too_few_seeds(tmp_path: Path) -> None:
    """The largest of a few is no bound on the rest."""
    least = ["a[cpu]: was run under 19 seeds; 20 are the least"]
    assert refusal(seeds()[1:], tmp_path) == least
    # One that was run again is none more.
    assert refusal([*seeds()[1:], seeds()[1]], tmp_path) == least


@pytest.mark.parametrize(
    "odd",
    [
        {"versions": {**VERSIONS, "torch": "2.13.1"}},
        {"versions": {name: VERSIONS[name] for name in ("torch", "mlx")}},
        {"machine": {**MACHINE, "threads": 4}},
    ],
)
def test_runs_that_are_not_alike(tmp_path: Path, odd: dict[str, Any]) -> None:
    """A table says with which versions, and how many threads, all of it was recorded."""
    *most, last = seeds()
    other = "a[cpu]: its runs had different versions, or threads; give those of one run"
    assert refusal([*most, replace(last, **odd)], tmp_path) == [other]


def test_rows_of_another_stack_do_not_stay(tmp_path: Path) -> None:
    """Under the new versions they would look as if they had been measured with those."""
    old = seeds("a[cpu]", versions={**VERSIONS, "torch": "2.12.1"})
    (table,) = tabulate_all(old, tmp_path)
    write_tolerances(table, tmp_path, "cpu")
    (table,) = tabulate_all(seeds("b[cpu]"), tmp_path)
    assert list(table.spread) == ["b[cpu]"]


def test_the_order_of_versions_is_nothing(tmp_path: Path) -> None:
    """Nor is it anything that another relation ran with others."""
    *most, last = seeds()
    turned = replace(last, versions=dict(reversed(VERSIONS.items())))
    other = seeds("b[cpu]", machine={**MACHINE, "threads": 4})
    (table,) = tabulate_all([*most, turned, *other], tmp_path)
    assert list(table.spread) == ["a[cpu]", "b[cpu]"]


@pytest.mark.parametrize("figure", [math.nan, math.inf])
def test_relations_that_do_not_hold(tmp_path: Path, figure: float) -> None:
    """They are told, through JSON as well, and nothing is recorded."""
    broken = [*seeds()[:-1], record("a[cpu]", 19, figure, outcome="failed")]
    through_json = [Record.from_json(json.loads(json.dumps(one.to_json()))) for one in broken]
    (text,) = refusal(through_json, tmp_path)
    assert text.startswith(f"a[cpu]: same_gradients of an honest run is {figure}; ")


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (
            record("a[cpu]", 19, None, outcome="failed"),
            "failed, so it measured nothing: no tensors",
        ),
        (
            record("a[cpu]", 19, checks=(), outcome="error", reason="killed"),
            "error, so it measured",
        ),
        (
            record("a[cpu]", 19, checks=(), outcome="unavailable", reason="no such library"),
            "unavailable, so it measured nothing: no such library",
        ),
    ],
)
def test_runs_that_measured_nothing(tmp_path: Path, odd: Record, why: str) -> None:
    """They don't count as seeds."""
    (text,) = refusal([*seeds()[:-1], odd], tmp_path)
    assert text.startswith(f"a[cpu]@19: {why}")


def test_the_warning_that_nothing_is_recorded(tmp_path: Path) -> None:
    """It measures nothing itself, and is what the first table is made in spite of."""
    (check,) = record().checks
    warning = Verdict("tolerances", "warned", None, Exactly("a row"), "", "nothing is recorded")
    (table,) = tabulate_all(seeds(checks=(check, warning)), tmp_path)
    assert list(table.spread["a[cpu]"]) == [check.name]


def test_what_is_unavailable_throughout_has_no_row(tmp_path: Path) -> None:
    """A library that isn't here hinders no other relation."""
    lacks = "no such library"
    absent = seeds("b[cpu]", checks=(), outcome="unavailable", reason=lacks)
    (table,) = tabulate_all(seeds() + absent, tmp_path)
    assert list(table.spread) == ["a[cpu]"]


def test_planted_differences_are_not_honest(tmp_path: Path) -> None:
    """They are run under the same seeds, and are no spread."""
    planted = [record("a[cpu]", n, 3.0, planted="scaled") for n in range(LEAST_SEEDS)]
    (table,) = tabulate_all(seeds() + planted, tmp_path)
    assert table.spread == {"a[cpu]": {"same_gradients": 1e-7}}


@pytest.mark.parametrize("records", [[], [record("a[cpu]", None)], seeds(arms=())])
def test_no_relation_under_seeds(tmp_path: Path, records: list[Record]) -> None:
    """It is said how to run them."""
    with pytest.raises(NothingTested, match=r"run: nox -s cpu -- -m relation --seeds 20$"):
        tabulate_all(records, tmp_path)


def test_ratios_are_no_differences(tmp_path: Path) -> None:
    """Their bounds stand in the spec."""
    ratio = Verdict("ratio_stored_mb", "passed", 0.3, AtMost(0.4), "times", "")
    (table,) = tabulate_all(seeds() + seeds("b[cpu]", checks=(ratio,)), tmp_path)
    assert list(table.spread) == ["a[cpu]"]


@pytest.mark.parametrize("name", ["same_gradients", "same_gradients_mean", "same_losses"])
@pytest.mark.parametrize("figure", [0.001, 0.5])
def test_rows_that_would_see_nothing(tmp_path: Path, name: str, figure: float) -> None:
    """Whatever is compared: what would allow 1 % is told for each check, and none is recorded."""
    fine = Verdict("same_updates", "passed", 9e-4, AtMost(1), "", "")
    blind = Verdict(name, "failed", figure, AtMost(0.005), "", "")
    assert refusal(seeds() + seeds("b[cpu]", checks=(fine, blind)), tmp_path) == [
        f"b[cpu]: {name} would allow 10 times {figure:.2g} of honest runs, and see no 1%; "
        "compare less"
    ]


def test_rows_that_just_see_one_percent(tmp_path: Path) -> None:
    """What is allowed is below it."""
    (table,) = tabulate_all(seeds(top=9e-4), tmp_path)
    assert table.spread == {"a[cpu]": {"same_gradients": 9e-4}}


def test_rows_that_see_nothing_once_they_are_rounded_up(tmp_path: Path) -> None:
    """What is read again is what decides."""
    with pytest.raises(BadInput, match="and see no 1%"):
        tabulate_all(seeds(top=9.91e-4), tmp_path)
