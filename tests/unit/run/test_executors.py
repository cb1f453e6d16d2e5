"""Cells in processes of their own: what they find there, and what comes back of them."""

from __future__ import annotations

import importlib.metadata
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.run.conftest import MakeCell, evidence_of

from tunematrix.errors import Obstacle
from tunematrix.evidence import collect
from tunematrix.evidence.events import (
    BrokenFault,
    Determinants,
    Finished,
    Phase,
    Raised,
    Refused,
    Started,
)
from tunematrix.evidence.run_dir import RunDir
from tunematrix.run.executor import Executor

pytestmark = pytest.mark.usefixtures("next_cell_runs")


def test_a_cell_leaves_all_its_evidence(executor: Executor, make_cell: MakeCell) -> None:
    """Events, both streams down to the descriptors, and files are where collect() looks."""
    evidence = evidence_of(executor, make_cell("succeed"))

    assert (evidence.exit.code, evidence.exit.signal, evidence.exit.problem) == (0, None, None)
    assert (evidence.exit.timed_out, evidence.exit.leftovers) == (False, ())
    assert 0 < evidence.exit.seconds < 30
    assert [type(event) for event in evidence.events] == [Started, Phase, Determinants, Finished]
    assert "hello from the cell \\udcff\n" in evidence.stdout
    assert "straight to the descriptor\n" in evidence.stdout
    assert evidence.stderr == "a warning from the cell\n"
    assert evidence.files == ("deep/result.txt",)


def test_a_cell_stands_alone_in_its_process(executor: Executor, make_cell: MakeCell) -> None:
    """It leads its session, finds the imports done, and nothing of how it was started."""
    evidence = evidence_of(executor, make_cell("succeed"))

    started, notice = evidence.one(Started), evidence.one(Determinants)
    assert started is not None and notice is not None
    assert started.pid != os.getpid()
    assert notice.values["session"] == started.pid
    assert notice.values["preloaded"]
    assert notice.values["start_method"] is None
    assert started.determinants["PYTHONHASHSEED"] == os.environ.get("PYTHONHASHSEED", "0")
    assert notice.values["variables"] == []


def test_cells_share_a_hash_seed(executor: Executor, make_cell: MakeCell) -> None:
    """The order of sets of strings is not what makes two cells differ."""
    notices = [evidence_of(executor, make_cell("succeed")).one(Determinants) for _ in range(2)]
    hashes = {notice.values["hash"] for notice in notices if notice is not None}
    assert len(hashes) == 1


def test_versions_are_those_of_the_environment(executor: Executor, make_cell: MakeCell) -> None:
    """Each library that computes is named with its version, and those missing are left out."""
    started = evidence_of(executor, make_cell("succeed")).one(Started)
    assert started is not None
    installed = {
        re.sub("[-_.]+", "-", item.name).lower(): item.version
        for item in importlib.metadata.distributions()
    }
    expected = {"tunematrix", "torch", "transformers", "peft", "trl", "numpy"} & installed.keys()
    assert {name: started.versions[name] for name in expected} == {
        name: installed[name] for name in expected
    }
    assert started.versions.keys() <= installed.keys()


def test_faults_are_entered_around_the_recipe(executor: Executor, make_cell: MakeCell) -> None:
    """A fault gets the config, and holds while the recipe runs."""
    evidence = evidence_of(executor, make_cell("read_context", faults=["recipes_for_run:plant"]))
    notice = evidence.one(Determinants)
    assert notice is not None
    assert notice.values == {"learning_rate": 3e-4, "planted": "0.0003"}


@pytest.mark.parametrize(("faults", "shared"), [([], True), (["recipes_for_run:plant"], False)])
def test_a_cell_under_a_fault_shares_no_reference(
    executor: Executor, make_cell: MakeCell, faults: list[str], shared: bool
) -> None:
    """What a fault has reached must never be what an honest cell is held against."""
    run_dir = make_cell("name_references", faults=faults)
    cell = run_dir.read_cell()
    config = cell.config.model_copy(update={"references": "../references"})
    run_dir.write_cell(replace(cell, config=config))
    notice = evidence_of(executor, run_dir).one(Determinants)
    assert notice is not None
    place = str((run_dir.path.parent / "references").resolve())
    assert notice.values == {"references": place if shared else ""}


def test_a_preparation_runs_in_a_process_of_its_own(executor: Executor, tmp_path: Path) -> None:
    """call() passes keyword arguments on, logs both streams, and tells how it ended."""
    name, made = "recipes_for_run:prepare", tmp_path / "made"
    well, badly = (RunDir.create(tmp_path, name) for name in ("well", "badly"))
    evidence = collect(well, executor.call(name, {"path": str(made)}, 30, well))
    assert (evidence.exit.code, evidence.one(Finished)) == (0, Finished())
    assert (made.read_text(), evidence.stdout) == ("ready", "preparing\n")

    evidence = collect(badly, executor.call(name, {"path": str(tmp_path)}, 30, badly))
    raised = evidence.one(Raised)
    assert evidence.exit.code == 1
    assert raised is not None and raised.exception[0] == "IsADirectoryError"
    assert "IsADirectoryError" in evidence.stderr


def test_a_preparation_finds_the_cache_from_its_folder(executor: Executor, tmp_path: Path) -> None:
    """Wherever the folder lies: what it is given is relative to it."""
    run_dir = RunDir.create(tmp_path, "moved")
    end = executor.call("recipes_for_run:fill", {"cache_dir": "../cache"}, 30, run_dir)
    assert end.code == 0
    assert (tmp_path / "cache" / "filled").is_file()


def test_a_refusal_comes_back_as_data(executor: Executor, tmp_path: Path) -> None:
    """What was looked for, found and to be done crosses the border of the process whole."""
    run_dir = RunDir.create(tmp_path, "refused")
    evidence = collect(run_dir, executor.call("recipes_for_run:refuse", {}, 30, run_dir))
    refused = evidence.one(Refused)
    assert refused == Refused(Obstacle("a device", "Unusable: none\nto do: ", "buy one", True))
    assert evidence.one(Raised) is not None


def test_a_broken_fault_comes_back_as_data(executor: Executor, make_cell: MakeCell) -> None:
    """Whoever counts what was noticed has to know that nothing was tried."""
    fault = "recipes_for_run:break_down"
    evidence = evidence_of(executor, make_cell("succeed", faults=[fault]))
    assert evidence.one(BrokenFault) == BrokenFault(fault, "on its way in")
    assert evidence.exit.code == 1
    assert evidence_of(executor, make_cell("raise_in_phase")).one(BrokenFault) is None
