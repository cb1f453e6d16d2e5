"""Evidence: collected whole, or as much as there is."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from tests.tiny import tiny_configuration

from tunematrix.errors import BadInput
from tunematrix.evidence import Exit, collect
from tunematrix.evidence.events import Finished, LoggedStep, Started
from tunematrix.evidence.log import EventLog
from tunematrix.evidence.run_dir import CellFile, RunDir

END = Exit(0, None, False, (), 1.0, "forkserver")


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    """A cell that has written nothing yet."""
    run_dir = RunDir.create(tmp_path, "lora[cpu]")
    run_dir.write_cell(CellFile("lora[cpu]", tiny_configuration("recipes.run")))
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
    """Relative, sorted, files only."""
    (run_dir.output / "checkpoint-2").mkdir(parents=True)
    (run_dir.output / "checkpoint-2" / "adapter.safetensors").touch()
    (run_dir.output / "a.json").touch()
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


def test_secrets_of_processes_left_running_are_masked(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their command lines go into records and reports."""
    monkeypatch.setenv("HF_TOKEN", "hf_abcdef")
    end = replace(END, leftovers=("server --token hf_abcdef",), problem="hf_abcdef")
    assert collect(run_dir, end).exit.leftovers == ("server --token <HF_TOKEN>",)
    assert collect(run_dir, end).exit.problem == "<HF_TOKEN>"


def test_a_log_that_leads_elsewhere_is_not_written_to(
    run_dir: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell may link its log to a file of the user's, and then has no log that could be judged."""
    monkeypatch.setenv("HF_TOKEN", "hf_abcdef")
    of_the_user = tmp_path / "credentials"
    of_the_user.write_text("password hf_abcdef")
    run_dir.stderr.symlink_to(of_the_user)
    with pytest.raises(BadInput, match=r"stderr.log is a link\). The cell has put something else"):
        collect(run_dir, END)
    run_dir.stderr.unlink()
    run_dir.stdout.hardlink_to(of_the_user)
    assert collect(run_dir, END).stdout == "password <HF_TOKEN>"
    assert of_the_user.read_text() == "password hf_abcdef"


def test_a_pipe_in_the_place_of_a_log_holds_nobody_up(run_dir: RunDir) -> None:
    """Nobody writes to it, so reading it would never end; and nothing can be said of the cell."""
    os.mkfifo(run_dir.stderr)
    with pytest.raises(BadInput, match=r"stderr.log is no regular file"):
        collect(run_dir, END)


def test_a_cells_settings_keep_no_secret(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker needs them in clear; once it has ended, nobody does."""
    monkeypatch.setenv("MY_API_KEY", 'quo"té-value')
    run_dir.cell.write_text(json.dumps({"key": 'quo"té-value'}))
    collect(run_dir, END)
    assert json.loads(run_dir.cell.read_text()) == {"key": "<MY_API_KEY>"}


@pytest.mark.parametrize("place", ["pipe", "/dev/zero"])
def test_events_that_are_no_file_are_refused(run_dir: RunDir, place: str) -> None:
    """With the file's name, at once."""
    if place == "pipe":
        os.mkfifo(run_dir.events)
    else:
        run_dir.events.symlink_to(place)
    with pytest.raises(BadInput, match=r"events.jsonl is no regular file"):
        collect(run_dir, END)
