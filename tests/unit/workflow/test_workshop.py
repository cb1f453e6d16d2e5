"""What a workshop can tell before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tunematrix.environments.table import Environment
from tunematrix.matrix.cells import Cell
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.spec import Spec
from tunematrix.workflow.workshop import RUNS_KEPT, Workshop


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


def unavailable(cell: Cell, groups: Groups) -> str | None:
    """What is lacking for a cell."""
    environment = Environment("cpu", "", ("one",))
    workshop = Workshop(environment, groups, "r", Path(), "auto", (), False, print)
    return workshop.unavailable(cell)


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


@pytest.mark.parametrize("prune", [True, False])
def test_older_runs_are_removed(tmp_path: Path, prune: bool) -> None:
    """The newest few stay; whoever only helps with a run leaves all of them."""
    groups = _groups(tmp_path, backend="")
    workshop = Workshop(
        Environment("cpu", "", ("one",)), groups, "r", tmp_path, "auto", (), False, print
    )
    names = [f"20261224-1011{n:02}-1a2f" for n in range(RUNS_KEPT + 2)]
    for name in names:
        (workshop.folder / "runs" / name).mkdir(parents=True)
    workshop.close(prune=prune)
    left = sorted(path.name for path in (workshop.folder / "runs").iterdir())
    assert left == (names[2:] if prune else names)


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
