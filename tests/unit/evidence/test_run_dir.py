"""Folders of cells: never shared, legal everywhere, cell.json all or nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.tiny import tiny_configuration

from tunematrix.errors import BadInput
from tunematrix.evidence.run_dir import CellFile, RunDir, folder_name


def test_different_cells_never_share_a_folder() -> None:
    """Not even on a file system that ignores case, nor where odd characters are replaced."""
    ids = [
        "lora[cpu-hqq-int4]",
        "lora[cpu_hqq-int4]",
        "lora(cpu-hqq-int4)",
        "LORA[cpu-hqq-int4]",
        "../lora",
        "lora",
        "",
        "[]",
        "ö",
        *(f"{'x' * 300}{number}" for number in range(3)),
    ]
    names = [folder_name(cell_id) for cell_id in ids]
    assert len({name.lower() for name in names}) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,120}", name) for name in names)
    assert not any(name.startswith(".") for name in names)


def test_a_folder_is_recognized_by_its_cell() -> None:
    """Whoever looks into .tunematrix finds a cell by its id."""
    assert folder_name("lora[cpu-hqq-int4]").startswith("lora-cpu-hqq-int4-")


def test_the_folder_of_another_run_is_not_reused(tmp_path: Path) -> None:
    """Evidence of two runs never mixes."""
    created = RunDir.create(tmp_path, "lora[cpu]")
    assert created.output.is_dir()
    with pytest.raises(FileExistsError):
        RunDir.create(tmp_path, "lora[cpu]")
    assert RunDir.create(tmp_path / "next", "lora[cpu]").path != created.path


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker may have another working directory."""
    monkeypatch.chdir(tmp_path)
    assert RunDir.create(Path("runs"), "lora").path.is_absolute()


def test_a_cell_comes_back_as_it_was(tmp_path: Path) -> None:
    """And its file has the documented keys."""
    run_dir = RunDir.create(tmp_path, "lora[cpu]")
    cell = CellFile("lora[cpu]", tiny_configuration("recipes.run", seed=3), ("faults:skip",))
    run_dir.write_cell(cell)
    assert run_dir.read_cell() == cell
    content = json.loads(run_dir.cell.read_text())
    assert content.pop("config")["train"]["seed"] == 3
    assert content == {"cell_id": "lora[cpu]", "faults": ["faults:skip"]}


def test_a_cell_names_no_place(tmp_path: Path) -> None:
    """Its folder can be carried elsewhere, and still says what to run."""
    run_dir = RunDir.create(tmp_path / "here", "lora[cpu]")
    run_dir.write_cell(CellFile("lora[cpu]", tiny_configuration("recipes.run")))
    assert str(tmp_path) not in run_dir.cell.read_text()
    before = run_dir.read_cell()
    (tmp_path / "here").rename(tmp_path / "there")
    assert RunDir(tmp_path / "there" / run_dir.path.name).read_cell() == before


def test_a_cell_is_replaced_whole(tmp_path: Path) -> None:
    """Whoever reads the old file while a new one is written reads all of the old one."""
    run_dir = RunDir.create(tmp_path, "lora")
    run_dir.write_cell(CellFile("lora", tiny_configuration("recipes.run", seed=1)))
    with run_dir.cell.open() as old:
        run_dir.write_cell(CellFile("lora", tiny_configuration("recipes.run", seed=2)))
        assert json.load(old)["config"]["train"]["seed"] == 1
    assert run_dir.read_cell().config.train.seed == 2


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"faults": [], "cell_id": "lora"}'])
def test_a_malformed_cell_is_an_error_with_its_path(tmp_path: Path, text: str | None) -> None:
    """Missing, torn, or lacking a field."""
    run_dir = RunDir.create(tmp_path, "lora")
    if text is not None:
        run_dir.cell.write_text(text)
    with pytest.raises(BadInput, match=re.escape(str(run_dir.cell))):
        run_dir.read_cell()
