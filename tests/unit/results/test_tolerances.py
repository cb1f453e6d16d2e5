from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tunematrix.checks.verdict import Verdict
from tunematrix.errors import BadInput, NothingTested
from tunematrix.results.record import Record
from tunematrix.results.tolerances import (
    LEAST_SEEDS,
    Tolerances,
    blind,
    hardware_class,
    read_tolerances,
    tabulate_all,
    write_tolerances,
)

VERSIONS = {"torch": "2.13.0", "mlx": "0.32.4", "numpy": "2.3.0"}
MACHINE = {"architecture": "x86_64", "threads": 2}


def record(
    name: str = "a[cpu]@0", figure: float | None = 1e-7, backend: str = "cpu", **fields: Any
) -> Record:
    """A relation's record under one seed."""
    check = Verdict("same_gradients", "warned", figure, "none recorded", "", "no tensors")
    whole: dict[str, Any] = {
        "outcome": "unavailable",
        "checks": (check,),
        "arms": ("x", "y"),
        "versions": VERSIONS,
        "machine": MACHINE,
        **fields,
    }
    return Record("20261224-101112-123", name, "a.yaml", "cpu", {"backend": backend}, **whole)


def seeds(name: str = "a[cpu]", top: float = 1e-7, **fields: Any) -> list[Record]:
    """Records under enough seeds, the last of which differs most."""
    count = LEAST_SEEDS
    return [record(f"{name}@{n}", top * (n + 1) / count, **fields) for n in range(count)]


def refusal(records: Sequence[Record], folder: Path) -> list[str]:
    """Why no table is made of records."""
    with pytest.raises(BadInput) as caught:
        tabulate_all(records, folder)
    return str(caught.value).splitlines()


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


def test_it_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """Small figures, round ones and zero are numbers again, whatever YAML takes for one."""
    figures = {"same_gradients": 1e-7, "same_losses": 0.0, "same_state": 3.0, "same_logits": 1e-5}
    checks = tuple(
        Verdict(name, "warned", f, "none recorded", "", "") for name, f in figures.items()
    )
    (table,) = tabulate_all(seeds(checks=checks), tmp_path)
    path = write_tolerances(table, tmp_path, "cpu")
    assert path == tmp_path / "tolerances" / "cpu-x86_64.yaml"
    assert "tunematrix tolerances --environment cpu" in path.read_text()
    assert read_tolerances([tmp_path], "cpu-x86_64") == table
    assert table.spread["a[cpu]"] == figures


@pytest.mark.parametrize(
    ("figure", "written"),
    [(1.231e-7, 1.3e-7), (1.2e-7, 1.2e-7), (9.91e-3, 1e-2), (123.4, 130.0), (5e-324, 5e-324)],
)
def test_figures_are_rounded_up(tmp_path: Path, figure: float, written: float) -> None:
    """Two digits, and never below what was measured."""
    (table,) = tabulate_all(seeds(top=figure), tmp_path)
    write_tolerances(table, tmp_path, "cpu")
    again = read_tolerances([tmp_path], "cpu-x86_64")
    assert again is not None
    assert again.spread["a[cpu]"]["same_gradients"] == pytest.approx(written)
    assert again.spread["a[cpu]"]["same_gradients"] >= figure


def test_rows_that_were_not_run_again_stay(tmp_path: Path) -> None:
    """One relation can be recorded alone; what is recorded again may become smaller."""
    for records in (seeds("a[cpu]", 1e-3) + seeds("b[cpu]", 1e-3), seeds("a[cpu]", 1e-4)):
        (table,) = tabulate_all(records, tmp_path)
        write_tolerances(table, tmp_path, "cpu")
    assert read_tolerances([tmp_path], "cpu-x86_64") == table
    assert {name: row["same_gradients"] for name, row in table.spread.items()} == {
        "a[cpu]": 1e-4,
        "b[cpu]": 1e-3,
    }


def test_each_class_of_hardware_has_a_table(tmp_path: Path) -> None:
    """An environment may have two backends."""
    found = tabulate_all(seeds() + seeds("a[mlx]", 1e-2, backend="mlx"), tmp_path)
    assert [table.hardware for table in found] == ["cpu-x86_64", "mlx-x86_64"]
    assert [list(table.spread) for table in found] == [["a[cpu]"], ["a[mlx]"]]
    write_tolerances(found[0], tmp_path, "cpu")
    assert read_tolerances([tmp_path], "mlx-x86_64") is None
    assert read_tolerances([], "cpu-x86_64") is None


def test_a_projects_own_rows_stand_before_the_shipped_ones(tmp_path: Path) -> None:
    """Those that it doesn't have are the shipped ones."""
    roots = (tmp_path / "shipped", tmp_path / "own")
    for root, names, top in ((roots[0], "ab", 1e-3), (roots[1], "a", 1e-4)):
        records = [one for name in names for one in seeds(f"{name}[cpu]", top)]
        (table,) = tabulate_all(records, root)
        write_tolerances(table, root, "cpu")
    both = read_tolerances(roots, "cpu-x86_64")
    assert both is not None
    assert [row["same_gradients"] for row in both.spread.values()] == [1e-4, 1e-3]


def test_too_few_seeds(tmp_path: Path) -> None:
    """The largest of a few is no bound on the rest."""
    assert refusal(seeds()[1:], tmp_path) == ["a[cpu]: was run under 19 seeds; 20 are the least"]


@pytest.mark.parametrize("figure", [math.nan, math.inf])
def test_relations_that_do_not_hold(tmp_path: Path, figure: float) -> None:
    """They are told, through JSON as well, and nothing is recorded."""
    broken = [*seeds()[:-1], record("a[cpu]@19", figure, outcome="failed")]
    through_json = [Record.from_json(json.loads(json.dumps(one.to_json()))) for one in broken]
    (text,) = refusal(through_json, tmp_path)
    assert text.startswith(f"a[cpu]: same_gradients of an honest run is {figure}; ")


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (record("a[cpu]@19", None, outcome="failed"), "failed, so it measured nothing: no tensors"),
        (record("a[cpu]@19", checks=(), outcome="error", reason="killed"), "error, so it measured"),
        (record("a[cpu]@19", checks=(), reason="no such library"), "unavailable, so it measured"),
    ],
)
def test_runs_that_measured_nothing(tmp_path: Path, odd: Record, why: str) -> None:
    """They don't count as seeds."""
    (text,) = refusal([*seeds()[:-1], odd], tmp_path)
    assert text.startswith(f"a[cpu]@19: {why}")


def test_what_is_unavailable_throughout_has_no_row(tmp_path: Path) -> None:
    """A library that isn't here hinders no other relation."""
    absent = seeds("b[cpu]", checks=(), reason="no such library")
    (table,) = tabulate_all(seeds() + absent, tmp_path)
    assert list(table.spread) == ["a[cpu]"]


def test_planted_differences_are_not_honest(tmp_path: Path) -> None:
    """They are run under the same seeds, and are no spread."""
    planted = [record(f"a[cpu]@{n}!scaled", 3.0, outcome="passed") for n in range(LEAST_SEEDS)]
    (table,) = tabulate_all(seeds() + planted, tmp_path)
    assert table.spread == {"a[cpu]": {"same_gradients": 1e-7}}


@pytest.mark.parametrize("records", [[], [record("a[cpu]")], seeds(arms=())])
def test_no_relation_under_seeds(tmp_path: Path, records: list[Record]) -> None:
    """It is said how to run them."""
    with pytest.raises(NothingTested, match=r"run: nox -s ENV -- -m relation --seeds 20$"):
        tabulate_all(records, tmp_path)


def test_ratios_are_no_differences(tmp_path: Path) -> None:
    """Their bounds stand in the spec."""
    ratio = Verdict("ratio_stored_mb", "passed", 0.3, "<= 0.4", "times", "")
    (table,) = tabulate_all(seeds() + seeds("b[cpu]", checks=(ratio,)), tmp_path)
    assert list(table.spread) == ["a[cpu]"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("threads: 2", "threads: two", "6: threads: expected a whole number, got 'two'"),
        ("same_gradients: 1.0e-07", "same_gradients: -1", "12: spread.a[cpu].same_gradients: exp"),
        ("same_gradients: 1.0e-07", "same_gradients: .nan", "12: spread.a[cpu].same_gradients: e"),
        ("seeds: 20", "sedes: 20", "5: sedes: is not a known key; did you mean seeds?"),
        ("hardware:", "hardware: [", "5: is not YAML"),
    ],
)
def test_a_malformed_table(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """It is refused with file and line, instead of allowing anything."""
    (table,) = tabulate_all(seeds(), tmp_path)
    path = write_tolerances(table, tmp_path, "cpu")
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    with pytest.raises(BadInput) as caught:
        read_tolerances([tmp_path], "cpu-x86_64")
    assert any(f"cpu-x86_64.yaml:{expected}" in line for line in str(caught.value).splitlines())


@pytest.mark.parametrize(
    ("versions", "threads", "expected"),
    [
        ({}, 2, ""),
        ({"torch": "2.13.9"}, 2, ""),
        ({"numpy": "3.0"}, 2, ""),
        ({"torch": "2.14.0"}, 2, "torch 2.13.0 → 2.14.0"),
        ({"torch": "3.13.0", "mlx": "0.33"}, 2, "torch 2.13.0 → 3.13.0, mlx 0.32.4 → 0.33"),
        ({}, 4, "threads 2 → 4"),
    ],
)
def test_age(tmp_path: Path, versions: dict[str, str], threads: int, expected: str) -> None:
    """Another minor version of what computes, or another number of threads, rounds otherwise."""
    (table,) = tabulate_all(seeds(), tmp_path)
    assert table.age({**VERSIONS, **versions}, threads) == expected


def test_age_of_a_library_that_is_gone(tmp_path: Path) -> None:
    """It is another machine's table."""
    (table,) = tabulate_all(seeds(), tmp_path)
    assert table.age({"torch": "2.13.0"}, 2) == "mlx 0.32.4 → none"


def test_relations_that_are_blind(tmp_path: Path) -> None:
    """Those that allow 1 % of a gradient can't see it; losses needn't."""
    checks = ("same_gradients", "same_gradients_mean", "same_losses")
    figures = [Verdict(name, "warned", 1e-3, "none recorded", "", "") for name in checks]
    (table,) = tabulate_all(seeds(checks=tuple(figures)) + seeds("b[cpu]", 9e-4), tmp_path)
    assert blind(table) == (
        "a[cpu]: same_gradients allows 0.01",
        "a[cpu]: same_gradients_mean allows 0.01",
    )


def test_hardware_class() -> None:
    """What computes, and on which kind of processor."""
    assert hardware_class(record(backend="mlx", machine={"architecture": "arm64"})) == "mlx-arm64"
