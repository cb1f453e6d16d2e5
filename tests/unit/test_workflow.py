"""The pure parts of the way; the way itself is walked in tests/plugin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tunematrix.evidence.events import (
    Determinants,
    Evaluation,
    LogitError,
    Memory,
    Phase,
    Started,
    Storage,
    Throughput,
)
from tunematrix.matrix.cells import Cell, Exclusion
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.results.outcome import Expected
from tunematrix.spec import Spec
from tunematrix.workflow import (
    declared_failures,
    determinants,
    durations,
    known_failures,
    metrics,
    unavailable,
)

if TYPE_CHECKING:
    from tests.unit.conftest import Run


def test_metrics_of_an_honest_run(run: Run) -> None:
    """Figure by name, units in the names; MB are 10^6 bytes."""
    assert metrics(run.evidence) == pytest.approx(
        {
            "gap_closed": 0.92,
            "stored_mb": 0.318088,
            "allocator_peak_mb": 112.0,
            "process_peak_mb": 64.0,
            "tokens_per_second": 2000.0,
            "logit_error": 0.166,
            "seconds": 14.0,
        }
    )


def test_metrics_that_were_not_measured_are_absent(run: Run) -> None:
    """They aren't 0; the time that a cell took is always known."""
    bare = run.without(Evaluation, Storage, Memory, Throughput, LogitError)
    assert metrics(bare.evidence) == {"seconds": 14.0}


def test_metrics_of_a_diverged_run(run: Run) -> None:
    """nan is a figure, and a worse one than none; no division breaks on the way."""
    diverged = run.edited(Evaluation, 1, loss=math.nan).edited(Throughput, seconds=0.0)
    found = metrics(diverged.evidence)
    assert math.isnan(found["gap_closed"])
    assert math.isnan(found["tokens_per_second"])


def test_durations(run: Run) -> None:
    """Each phase, and the whole; a killed cell has at least that."""
    assert durations(run.evidence) == {"reference": 1.5, "train": 10.5, "total": 14.0}
    assert durations(run.without(Phase).evidence) == {"total": 14.0}


def test_determinants(run: Run) -> None:
    """What the cell's process and its backend reported, over what this machine is."""
    run = run.recording(Started(1, {"cores": 64, "OMP_NUM_THREADS": None}, {"torch": "2.13.0"}))
    found = determinants(run.recording(Determinants({"threads": 4, "cores": 8})).evidence)
    assert found["versions"] == {"torch": "2.13.0"}
    assert found["machine"]["cores"] == 8
    assert found["machine"]["threads"] == 4
    assert found["machine"]["OMP_NUM_THREADS"] is None
    assert found["machine"]["isolation"] == "forkserver"
    assert found["machine"]["memory_methods"] == {
        "process_peak": "VmHWM, cleared",
        "allocator_peak": "profiler",
    }
    assert found["machine"]["system"]


def test_determinants_of_a_cell_that_never_started(run: Run) -> None:
    """The machine is known even then."""
    found = determinants(run.without(Started, Determinants, Memory).evidence)
    assert found["versions"] == {}
    assert found["machine"]["memory_methods"] == {}
    assert found["machine"]["system"]


def _groups(root: Path, **requires: str) -> Groups:
    """Config groups with one option on each axis, which requires these modules."""
    lines = "".join(f"  - {axis}: one\n" for axis in requires)
    (root / "cell.yaml").write_text(f"defaults:\n{lines}  - _self_\n")
    for axis, wanted in requires.items():
        (root / axis).mkdir()
        (root / axis / "one.yaml").write_text(f"name: one\n{wanted}\n")
    return read_groups([root])


def _cell(axes: Mapping[str, str]) -> Cell:
    return Cell("a[one]", Spec(test_id="a", recipe="sft"), axes, ())


def test_nothing_is_unavailable_where_everything_is_there(tmp_path: Path) -> None:
    """Modules are looked for, not imported; an option may require none."""
    groups = _groups(tmp_path, backend="requires: [json, email.mime.text]", method="")
    assert unavailable(_cell({"backend": "one", "method": "one"}), groups) is None


def test_a_gpu_that_the_backend_lacks_is_named(tmp_path: Path) -> None:
    """A spec that asks for GPUs never turns green on a backend without one."""
    spec = Spec(test_id="a", recipe="sft", gpu_requirement=2)
    cell = Cell("a[one]", spec, {"backend": "one"}, ())
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    reason = unavailable(cell, _groups(tmp_path / "without", backend=""))
    assert reason is not None
    assert "2 GPU" in reason
    assert unavailable(cell, _groups(tmp_path / "with", backend="gpu: true")) is None


@pytest.mark.parametrize("module", ["no_such_module", "no_such_parent.child", "json.no_child"])
def test_a_missing_library_is_named_with_its_install_command(tmp_path: Path, module: str) -> None:
    """Whether the module is missing or its whole package."""
    requires = f"requires: [json, {module}]\ninstall: pip install x"
    groups = _groups(tmp_path, backend="", quantizer=requires)
    reason = unavailable(_cell({"backend": "one", "quantizer": "one"}), groups)
    assert reason == f"quantizer one needs {module}; install it with: pip install x"


def test_without_a_command_the_session_installs_it(tmp_path: Path) -> None:
    """All modules that are missing are named at once."""
    groups = _groups(tmp_path, backend="requires: [no_such_a, no_such_b]")
    reason = unavailable(_cell({"backend": "one"}), groups)
    assert reason == "backend one needs no_such_a, no_such_b; install it with: nox -s one"


def test_known_failures_of_a_cell() -> None:
    """Those whose options the cell has, in the order of the spec."""
    entries = [
        {"when": {"quantizer": "none"}, "check": "moved", "reason": "r0"},
        {"when": {"quantizer": ["hqq-int4", "hqq-int8"]}, "raises": "ValueError", "reason": "r1"},
        {"when": {"method": "lora"}, "check": "reload", "reason": "r2"},
    ]
    link = "https://example.org"
    spec = Spec.model_validate(
        {
            "test_id": "a",
            "recipe": "sft",
            "known_failures": [{**entry, "link": link} for entry in entries],
        }
    )
    cell = Cell("a[cpu]", spec, {"quantizer": "hqq-int8", "method": "lora"}, ())
    assert known_failures(cell) == (
        Expected("ValueError", None, "r1", link),
        Expected(None, "reload", "r2", link),
    )
    assert known_failures(_cell({"quantizer": "none"})) == ()


def test_declared_failures_of_an_exclusion() -> None:
    """Each check that is named has to fail, or the exception, or anything where none is named."""
    cell = _cell({"quantizer": "none"})

    def declared(raises: str | None, *checks: str) -> tuple[Expected, ...]:
        return declared_failures(Exclusion(cell, "r", "https://e", raises, checks, "a.yaml"))

    assert declared(None, "moved", "reload") == (
        Expected(None, "moved", "r", "https://e"),
        Expected(None, "reload", "r", "https://e"),
    )
    assert declared("ValueError") == (Expected("ValueError", None, "r", "https://e"),)
    assert declared(None) == (Expected(None, None, "r", "https://e"),)
