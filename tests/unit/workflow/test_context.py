"""What a context can tell before anything runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.tiny import tiny_configuration

from tunematrix.configuration.declarations import Preparation
from tunematrix.environments.table import Environment
from tunematrix.matrix.cells import Cell
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.spec import Spec
from tunematrix.workflow.context import RUNS_KEPT, RunContext


def _groups(root: Path, **requires: str) -> Groups:
    """Config groups with one option on each axis, which requires these modules."""
    lines = "".join(f"  - {axis}: one\n" for axis in requires)
    (root / "cell.yaml").write_text(f"defaults:\n{lines}  - _self_\n")
    for axis, wanted in requires.items():
        (root / axis).mkdir()
        (root / axis / "one.yaml").write_text(f"name: one\n{wanted}\n")
    return read_groups([root])


def _cell(axes: Mapping[str, str]) -> Cell:
    return Cell("a[one]", Spec(test_id="a", recipe="sft"), axes, {})


def unavailable(cell: Cell, groups: Groups) -> str | None:
    """What is lacking for a cell."""
    environment = Environment("cpu", "", ("one",))
    context = RunContext(environment, groups, "r", Path(), "auto", (), False, print)
    obstacle = context.obstacle(cell)
    return None if obstacle is None else str(obstacle)


def test_nothing_is_unavailable_where_everything_is_there(tmp_path: Path) -> None:
    """Modules are looked for, not imported; an option may require none."""
    groups = _groups(tmp_path, backend="requires: [json, email.mime.text]", quantizer="")
    assert unavailable(_cell({"backend": "one", "quantizer": "one"}), groups) is None


def test_a_gpu_that_the_backend_lacks_is_named(tmp_path: Path) -> None:
    """A spec that asks for GPUs never turns green on a backend without one."""
    spec = Spec(test_id="a", recipe="sft", gpu_requirement=2)
    cell = Cell("a[one]", spec, {"backend": "one"}, {})
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
    context = RunContext(
        Environment("cpu", "", ("one",)), groups, "r", tmp_path, "auto", (), False, print
    )
    names = [f"20261224-1011{n:02}-1a2f" for n in range(RUNS_KEPT + 2)]
    for name in names:
        (context.folder / "runs" / name).mkdir(parents=True)
    context.close(prune=prune)
    left = sorted(path.name for path in (context.folder / "runs").iterdir())
    assert left == (names[2:] if prune else names)


def test_a_run_under_way_keeps_its_folder(tmp_path: Path) -> None:
    """However many younger ones have ended meanwhile; afterwards it goes like any other."""
    groups = _groups(tmp_path, backend="")

    def context(name: str) -> RunContext:
        environment = Environment("cpu", "", ("one",))
        return RunContext(environment, groups, name, tmp_path, "auto", (), False, print)

    slow = context("20261224-101100-1a2f")
    slow.claim_folder()
    (slow.run_folder / "cell").mkdir()
    for number in range(RUNS_KEPT + 2):
        (slow.folder / f"runs/20261224-1012{number:02}-1a2f").mkdir()
    context("20261224-101300-1a2f").close(prune=True)
    assert (slow.run_folder / "cell").is_dir()
    slow.close(prune=False)
    context("20261224-101301-1a2f").close(prune=True)
    assert not slow.run_folder.exists()


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


def test_a_preparation_is_interrupted(tmp_path: Path) -> None:
    """Ctrl-C reaches a thread that compiles, and whoever else needs the executor goes on."""
    groups = _groups(tmp_path, backend="")
    environment = Environment("cpu", "", ("one",))
    context = RunContext(environment, groups, "r", tmp_path, "spawn", (), False, print)
    call = "recipes_for_workflow:compile_for_ever"
    config = tiny_configuration("recipes_for_workflow.save")
    wanted = Preparation(call=call, note="compiling")
    quantizer = config.quantizer.model_copy(update={"prepare": wanted})
    config = config.model_copy(update={"quantizer": quantizer})
    with ThreadPoolExecutor(1) as threads:
        preparing = threads.submit(context.prepare, config)
        deadline = time.monotonic() + 60
        while not (context.cache / "begun").exists():
            assert time.monotonic() < deadline and not preparing.done(), "it never began"
            time.sleep(0.02)
        began = time.monotonic()
        context.claim_folder()
        context.executor.interrupt()
        with pytest.raises(KeyboardInterrupt):
            preparing.result(60)
    assert time.monotonic() - began < 60
    context.close(prune=False)
