"""TensorBoard's event files, read back by the reader of trainers' logs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from tunematrix.errors import MachineProblem
from tunematrix.evidence.readers.content import LogFile
from tunematrix.evidence.readers.event_files import event_file, scalars_of
from tunematrix.report.tensorboard import FILE, write_runs
from tunematrix.results.record import Record

LOSSES = tuple((step, 5.0 / step) for step in (1, 2, 130, 20_000))
CELL = Record(
    "20261128-141907-05ae",
    "lora[cpu-lora-none]",
    "a.yaml",
    "cpu",
    {"recipe": "sft", "method": ("lora", "dora")},
    "passed",
    metrics={"entropy_floor": 0.5, "gap_closed": 0.9},
    losses=LOSSES,
)


def files(folder: Path) -> list[Path]:
    """All files below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def log(path: Path) -> LogFile:
    """A file as the reader of logs takes it."""
    return LogFile(path)


def test_the_loss_curve_comes_back(tmp_path: Path) -> None:
    """Step by step, with the floor at both ends and each figure at the last step."""
    assert write_runs([CELL, replace(CELL, cell_id="other[cpu]")], tmp_path) == 2
    first, _ = files(tmp_path)
    content = event_file(log(first))
    assert content is not None and not content.cut_off
    assert [one.step for one in content.steps] == [step for step, _ in LOSSES]
    assert [one.loss for one in content.steps] == pytest.approx([loss for _, loss in LOSSES])
    scalars, whole = scalars_of(log(first))
    assert whole
    assert [entry for entry in scalars if entry[1] == "entropy_floor"] == [
        (1, "entropy_floor", 0.5),
        (20_000, "entropy_floor", 0.5),
    ]
    (gap,) = [entry for entry in scalars if entry[1] == "metrics/gap_closed"]
    assert gap[0] == 20_000 and gap[2] == pytest.approx(0.9)


def test_the_axes_are_there(tmp_path: Path) -> None:
    """As TensorBoard's page HPARAMS wants them; the `tensorboard` package has read such a file."""
    write_runs([CELL], tmp_path)
    (file,) = files(tmp_path)
    content = file.read_bytes()
    for word in (b"_hparams_/session_start_info", b"hparams", b"lora|dora", b"outcome"):
        assert word in content


@pytest.mark.parametrize(
    "name", ["../../up", "/etc/passwd", "a\x00b", "x" * 500, "é", "\udcff", "", "CON"]
)
def test_hostile_names(tmp_path: Path, name: str) -> None:
    """Whatever a cell, its run and its axes are called, its file lies below the folder."""
    record = replace(CELL, cell_id=name, run_id=name, environment=name, axes={name: name})
    assert write_runs([record], tmp_path / "in") == 1
    assert files(tmp_path) == files(tmp_path / "in")
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf, 1e300, -1e300, 0.0, 1e-300])
def test_odd_figures(tmp_path: Path, figure: float) -> None:
    """They come back as far as 32 bits can hold them."""
    record = replace(CELL, losses=((-3, figure), (2**40, figure)), metrics={"a": figure})
    write_runs([record], tmp_path)
    scalars, whole = scalars_of(log(files(tmp_path)[0]))
    assert whole
    assert [(step, tag) for step, tag, _ in scalars] == [
        (0, "loss"),
        (2**40, "loss"),
        (2**40, "metrics/a"),
    ]
    shown = scalars[0][2]
    assert math.isnan(shown) if math.isnan(figure) else (shown > 0) == (figure > 1e-50)


def test_written_again(tmp_path: Path) -> None:
    """The same files, to the byte, and nothing beside them; what has no figure has no file."""
    records = [CELL, replace(CELL, cell_id="bare", losses=(), metrics={})]
    assert write_runs(records, tmp_path) == 1
    before = {path: path.read_bytes() for path in files(tmp_path)}
    write_runs(records, tmp_path)
    assert {path: path.read_bytes() for path in files(tmp_path)} == before
    assert [path.name for path in before] == [FILE]


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    """It is said what can't be written."""
    (tmp_path / "taken").touch()
    with pytest.raises(MachineProblem, match="can't write"):
        write_runs([CELL], tmp_path / "taken")
