from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunematrix.baselines.files import read_file
from tunematrix.baselines.tolerances import (
    LEAST_SEEDS,
    Tolerances,
    hardware_class,
    read_tolerances,
    tabulate_all,
    write_tolerances,
)
from tunematrix.checks.bound import AtMost, Exactly
from tunematrix.checks.verdict import Verdict
from tunematrix.errors import BadInput, NothingTested
from tunematrix.matrix.cells import display_id
from tunematrix.results.record import Record

VERSIONS = {"torch": "2.13.0", "mlx": "0.32.4", "numpy": "2.3.0"}
MACHINE = {"architecture": "x86_64", "threads": 2}


def record(
    name: str = "a[cpu]",
    seed: int | None = 0,
    figure: float | None = 1e-7,
    backend: str = "cpu",
    **fields: Any,
) -> Record:
    """A relation's record under one seed."""
    check = Verdict("same_gradients", "passed", figure, AtMost(0.005), "", "no tensors")
    whole: dict[str, Any] = {
        "outcome": "passed",
        "checks": (check,),
        "arms": ("x", "y"),
        "versions": VERSIONS,
        "machine": MACHINE,
        "base_id": name,
        "seed": seed,
        "backend": backend,
        **fields,
    }
    shown = display_id(name, seed, whole.get("planted", ""))
    return Record("20261224-101112-1a2f", shown, "a.yaml", "cpu", {"backend": backend}, **whole)


def seeds(name: str = "a[cpu]", top: float = 1e-7, **fields: Any) -> list[Record]:
    """Records under enough seeds, the last of which differs most."""
    count = LEAST_SEEDS
    return [record(name, n, top * (n + 1) / count, **fields) for n in range(count)]


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
    figures = {"same_gradients": 1e-7, "same_losses": 0.0, "same_state": 5e-4, "same_logits": 1e-5}
    checks = tuple(Verdict(name, "passed", f, AtMost(1), "", "") for name, f in figures.items())
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
    (table,) = tabulate_all(seeds(), tmp_path)
    spread = {"a[cpu]": {"same_gradients": figure}}
    again = read_file(
        write_tolerances(table.model_copy(update={"spread": spread}), tmp_path, "cpu"), Tolerances
    )
    assert again.spread["a[cpu]"]["same_gradients"] == pytest.approx(written)
    assert again.spread["a[cpu]"]["same_gradients"] >= figure


@pytest.mark.parametrize("figure", [0.001, 0.5, 1e300])
def test_a_table_that_sees_nothing(tmp_path: Path, figure: float) -> None:
    """It is judged when it is read as well: somebody may have written it by hand."""
    (table,) = tabulate_all(seeds(), tmp_path)
    spread = {"a[cpu]": {"same_logits": figure}}
    write_tolerances(table.model_copy(update={"spread": spread}), tmp_path, "cpu")
    with pytest.raises(BadInput, match=r"same_logits: 10 times .* 1% not be seen; remove"):
        read_tolerances([tmp_path], "cpu-x86_64")


def test_rows_that_were_not_run_again_stay(tmp_path: Path) -> None:
    """One relation can be recorded alone; what is recorded again may become smaller."""
    for records in (seeds("a[cpu]", 5e-4) + seeds("b[cpu]", 5e-4), seeds("a[cpu]", 1e-4)):
        (table,) = tabulate_all(records, tmp_path)
        write_tolerances(table, tmp_path, "cpu")
    assert read_tolerances([tmp_path], "cpu-x86_64") == table
    assert {name: row["same_gradients"] for name, row in table.spread.items()} == {
        "a[cpu]": 1e-4,
        "b[cpu]": 5e-4,
    }


def test_each_class_of_hardware_has_a_table(tmp_path: Path) -> None:
    """An environment may have two backends."""
    found = tabulate_all(seeds() + seeds("a[mlx]", 1e-4, backend="mlx"), tmp_path)
    assert [table.hardware for table in found] == ["cpu-x86_64", "mlx-x86_64"]
    assert [list(table.spread) for table in found] == [["a[cpu]"], ["a[mlx]"]]
    write_tolerances(found[0], tmp_path, "cpu")
    assert read_tolerances([tmp_path], "mlx-x86_64") is None
    assert read_tolerances([], "cpu-x86_64") is None


def test_a_projects_own_rows_stand_before_the_shipped_ones(tmp_path: Path) -> None:
    """Those that it doesn't have are the shipped ones."""
    roots = (tmp_path / "shipped", tmp_path / "own")
    for root, names, top in ((roots[0], "ab", 5e-4), (roots[1], "a", 1e-4)):
        records = [record for name in names for record in seeds(f"{name}[cpu]", top)]
        (table,) = tabulate_all(records, root)
        write_tolerances(table, root, "cpu")
    both = read_tolerances(roots, "cpu-x86_64")
    assert both is not None
    assert [row["same_gradients"] for row in both.spread.values()] == [1e-4, 5e-4]


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


def test_a_library_that_is_not_installed_ages_nothing(tmp_path: Path) -> None:
    """It computes nothing: the cpu environment has no mlx, and the machine that records may."""
    (table,) = tabulate_all(seeds(), tmp_path)
    assert table.age({"torch": "2.13.0"}, 2) == ""
    assert table.age({"torch": "2.14.0"}, 2) == "torch 2.13.0 → 2.14.0"


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


@pytest.mark.parametrize(
    ("backend", "machine", "expected"),
    [
        ("mlx", {"architecture": "arm64"}, "mlx-arm64"),
        ("cpu", {"architecture": "x86_64", "gpu": ""}, "cpu-x86_64"),
        ("cuda", {"architecture": "x86_64", "gpu": "NVIDIA H200"}, "cuda-nvidia-h200"),
        ("mps", {"architecture": "arm64", "gpu": " Apple M3/(Max) "}, "mps-apple-m3-max"),
    ],
)
def test_hardware_class(backend: str, machine: dict[str, Any], expected: str) -> None:
    """What computes: a GPU by its name, as a file may be called, or the kind of processor."""
    assert hardware_class(record(backend=backend, machine=machine)) == expected


@pytest.mark.parametrize(("threads", "counted"), [(4, 4), (None, 1)])
def test_threads(tmp_path: Path, threads: int | None, counted: int) -> None:
    """MLX says nothing of them, and computes as it does."""
    (table,) = tabulate_all(seeds(machine={**MACHINE, "threads": threads}), tmp_path)
    assert table.threads == counted


def test_each_gpu_has_a_table(tmp_path: Path) -> None:
    """One rounds otherwise than the other, in the same kind of machine."""
    gpus = ("H200", "T4")
    machines = [{**MACHINE, "gpu": gpu} for gpu in gpus]
    records = [record for machine in machines for record in seeds(backend="cuda", machine=machine)]
    found = tabulate_all(records, tmp_path)
    assert [table.hardware for table in found] == ["cuda-h200", "cuda-t4"]
