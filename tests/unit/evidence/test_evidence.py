"""Evidence: collected whole, or as much as there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunematrix.evidence import Exit, collect
from tunematrix.evidence.events import Finished, LoggedStep, Started
from tunematrix.evidence.log import EventLog
from tunematrix.evidence.run_dir import CellFile, RunDir

END = Exit(0, None, False, (), 1.0, "forkserver")


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    """A cell that has written nothing yet."""
    run_dir = RunDir.create(tmp_path, "lora[cpu]")
    run_dir.write_cell(CellFile("lora[cpu]", {}, str(run_dir.output)))
    return run_dir


def test_a_cell_that_wrote_nothing_has_empty_evidence(run_dir: RunDir) -> None:
    """A cell may die before its first event."""
    evidence = collect(run_dir, END)
    assert (evidence.exit, evidence.events, evidence.files) == (END, (), ())
    assert (evidence.stdout, evidence.stderr) == ("", "")
    assert evidence.one(Started) is None
    assert evidence.all(Started) == ()


def test_events_are_found_by_kind(run_dir: RunDir) -> None:
    """one() gives the last, all() gives all in order."""
    steps = (LoggedStep(1, 2.0), LoggedStep(2, 1.0))
    with EventLog(run_dir.events) as log:
        for event in (*steps, Finished()):
            log.write(event)
    evidence = collect(run_dir, END)
    assert evidence.one(LoggedStep) == steps[-1]
    assert evidence.all(LoggedStep) == steps
    assert evidence.one(Finished) == Finished()


def test_files_are_listed_below_the_output_folder(run_dir: RunDir) -> None:
    """Relative, sorted, files only, wherever cell.json puts the folder."""
    elsewhere = run_dir.path / "elsewhere"
    (elsewhere / "checkpoint-2").mkdir(parents=True)
    (elsewhere / "checkpoint-2" / "adapter.safetensors").touch()
    (elsewhere / "a.json").touch()
    run_dir.write_cell(CellFile("lora[cpu]", {}, str(elsewhere)))
    assert collect(run_dir, END).files == ("a.json", "checkpoint-2/adapter.safetensors")


def test_logs_need_not_be_text(run_dir: RunDir) -> None:
    """Stray bytes are shown as such and hide nothing."""
    run_dir.stdout.write_bytes(b"loss \xff\xfe 0.5")
    assert collect(run_dir, END).stdout == "loss \ufffd\ufffd 0.5"


def test_huge_logs_keep_head_and_tail(run_dir: RunDir) -> None:
    """The first error and the last words survive, and the gap is told."""
    middle = 5_000_000
    run_dir.stderr.write_bytes(b"first" + b"." * (middle - 10) + b"last!")
    stderr = collect(run_dir, END).stderr
    assert stderr.startswith("first.") and stderr.endswith(".last!")
    assert len(stderr) < 4_000_100
    assert "[... 1000000 bytes of stderr.log left out ...]" in " ".join(stderr.split("\n"))


def test_logs_up_to_the_limit_are_whole(run_dir: RunDir) -> None:
    """Nothing is left out, nor told to be, as long as both halves meet."""
    run_dir.stderr.write_bytes(b"x" * 4_000_000)
    assert collect(run_dir, END).stderr == "x" * 4_000_000


def test_secrets_in_logs_are_masked(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that prints its token must not carry it into a report."""
    monkeypatch.setenv("HF_TOKEN", "hf_abcdef")
    run_dir.stdout.write_text("logging in with hf_abcdef")
    assert collect(run_dir, END).stdout == "logging in with <HF_TOKEN>"
