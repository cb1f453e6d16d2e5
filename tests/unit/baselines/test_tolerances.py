"""Tables of tolerances as files: written, read again, and refused if they can't be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.baselines.relation_records import MACHINE, VERSIONS, record, seeds

from tunematrix.baselines.files import read_file
from tunematrix.baselines.tolerances import (
    Tolerances,
    hardware_class,
    read_tolerances,
    tabulate_all,
    write_tolerances,
)
from tunematrix.checks.bound import AtMost
from tunematrix.checks.verdict import Verdict
from tunematrix.errors import BadInput


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
