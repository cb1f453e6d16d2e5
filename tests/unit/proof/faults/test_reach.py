from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunematrix.evidence.run_dir import RunDir
from tunematrix.proof.faults.reach import PEAK_STEP, differ

HONEST = [
    {"kind": "Started", "pid": 1},
    {"kind": "LoggedStep", "step": 1, "loss": 3.5},
    {"kind": "Memory", "measure": "stored", "bytes": 400},
    {"kind": "Memory", "measure": "process_peak", "bytes": 50_000_000},
    {"kind": "Phase", "name": "train", "seconds": 1.0},
    {"kind": "StepDone", "name": "train", "seconds": 1.0, "says": "trained 3 steps"},
]


def run(folder: Path, name: str, **changed: object) -> RunDir:
    """A run directory; `changed` is put into every event that has such a field."""
    run_dir = RunDir.create(folder, name)
    events = [
        {**event, **{key: value for key, value in changed.items() if key in event}}
        for event in HONEST
    ]
    run_dir.events.write_text("".join(json.dumps(event) + "\n" for event in events))
    return run_dir


@pytest.mark.parametrize("field", [{"pid": 2}, {"seconds": 9.0}])
def test_who_ran_it_and_how_long_changes_nothing(tmp_path: Path, field: dict[str, object]) -> None:
    """Honest runs differ in these."""
    assert not differ(run(tmp_path, "a"), run(tmp_path, "b", **field))


@pytest.mark.parametrize("field", [{"loss": 3.500001}, {"says": "trained 2 steps"}])
def test_what_was_measured_does(tmp_path: Path, field: dict[str, object]) -> None:
    """However little, and beside how long it took."""
    assert differ(run(tmp_path, "a"), run(tmp_path, "b", **field))


@pytest.mark.parametrize(("more", "told"), [(PEAK_STEP // 2, False), (2 * PEAK_STEP, True)])
def test_a_peak_does_where_it_is_beyond_chance(tmp_path: Path, more: int, told: bool) -> None:
    """Peaks of honest runs are never the same to the byte."""
    one, other = run(tmp_path, "a"), run(tmp_path, "b")
    text = other.events.read_text().replace("50000000", str(50_000_000 + more))
    other.events.write_text(text)
    assert differ(one, other) is told


def test_what_was_saved_does(tmp_path: Path) -> None:
    """A fault may spoil nothing but files; times and paths in them tell nothing."""
    one, other = run(tmp_path, "a"), run(tmp_path, "b")
    for run_dir, text in ((one, "{}"), (other, '{"r": 8}')):
        (run_dir.output / "adapter_config.json").write_text(text)
        (run_dir.output / "trainer_state.json").write_text(f'{{"seconds": "{run_dir.path}"}}')
    assert differ(one, other)
    (other.output / "adapter_config.json").write_text("{}")
    assert not differ(one, other)


def test_another_process_of_the_cell_does(tmp_path: Path) -> None:
    """A fault may act in one rank alone."""
    one, other = run(tmp_path, "a"), run(tmp_path, "b")
    for run_dir, loss in ((one, 1.0), (other, 2.0)):
        rank = run_dir.rank(1)
        rank.path.mkdir()
        rank.events.write_text(json.dumps({"kind": "LoggedStep", "loss": loss}) + "\n")
    assert differ(one, other)


def test_a_run_that_left_nothing(tmp_path: Path) -> None:
    """It was ended before it wrote anything, which is a change."""
    one, other = run(tmp_path, "a"), run(tmp_path, "b")
    other.events.unlink()
    assert differ(one, other)
