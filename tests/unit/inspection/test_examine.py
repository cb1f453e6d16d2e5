"""Configs that are all right pass, and each planted fault is found with its file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.inspection.trees import FAULTY, HONEST, lay_out

from tunematrix.errors import BadInput, NothingTested
from tunematrix.inspection import examine


@pytest.mark.each_time(6)
@pytest.mark.parametrize("tree", HONEST)
def test_no_false_alarm(tree: str, tmp_path: Path) -> None:
    """Whatever Hydra and OmegaConf take is taken."""
    reports = examine([lay_out(HONEST[tree], tmp_path)])
    assert reports
    for report in reports:
        assert report.outcome == "passed", f"{report.file}: {report.problems} {report.unchecked}"


@pytest.mark.each_time(7)
@pytest.mark.parametrize("tree", FAULTY)
def test_a_fault_is_found_at_its_place(tree: str, tmp_path: Path) -> None:
    """Each fault of a tree, at the line that has to be changed, and nothing else."""
    text, expected = FAULTY[tree]
    reports = examine([lay_out(text, tmp_path)])
    found = {problem for report in reports for problem in report.problems}
    places = {(str(p.file.relative_to(tmp_path)), p.line) for p in found if p.file is not None}
    assert places == {(file, line) for file, line, _ in expected}
    for file, line, words in expected:
        texts = [str(p) for p in found if p.file == tmp_path / file and p.line == line]
        assert any(words in one for one in texts), texts


def test_one_file_is_checked_within_its_tree(tmp_path: Path) -> None:
    """The key it refers to stands in the config that it is an option of."""
    lay_out(HONEST["experiments"], tmp_path)
    (report,) = examine([tmp_path / "conf/model/big.yaml"])
    assert (report.outcome, report.composed) == ("passed", "train, model=big")
    (tmp_path / "conf/model/big.yaml").write_text("dim: ${dimension}\n")
    (report,) = examine([tmp_path / "conf/model"])[:1]
    assert "no key dimension" in report.problems[0].text


def test_what_is_still_needed_is_a_note(tmp_path: Path) -> None:
    """Values from the command line, variables, arguments from code: no faults, but said."""
    lay_out(HONEST["mandatory values and groups"], tmp_path)
    notes = {report.file.name: report.notes for report in examine([tmp_path])}
    assert "needs run_name" in " ".join(notes["config.yaml"])


@pytest.mark.parametrize("folder", ["", "only/text"])
def test_a_folder_without_configs_is_an_error(folder: str, tmp_path: Path) -> None:
    """Nothing checked is nothing proved."""
    (tmp_path / "only/text").mkdir(parents=True)
    with pytest.raises(NothingTested, match="holds no config"):
        examine([tmp_path / folder])


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """It may be a slip of the pen."""
    with pytest.raises(BadInput, match="no such file or folder"):
        examine([tmp_path / "konf"])
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BadInput, match="not a YAML file"):
        examine([tmp_path / "notes.txt"])


def test_a_wrong_setting_is_an_error(tmp_path: Path) -> None:
    """With the line in pyproject.toml, and the nearest right name."""
    lay_out(HONEST["experiments"], tmp_path)
    (tmp_path / "pyproject.toml").write_text('[tool.tunematrix.inspect]\nrots = ["conf"]\n')
    with pytest.raises(BadInput, match=r"pyproject\.toml:2.*rots.*did you mean roots"):
        examine([tmp_path])


def test_many_configs_are_shared_by_processes(tmp_path: Path) -> None:
    """All of them get their report, also those with a fault, and progress is told."""
    lay_out(HONEST["experiments"], tmp_path)
    for number in range(60):
        (tmp_path / f"conf/model/m{number:02}.yaml").write_text(f"dim: {number}\n")
    (tmp_path / "conf/model/m33.yaml").write_text("dim: ${dimm}\n")
    told: list[tuple[str, int, int]] = []
    reports = examine([tmp_path], progress=lambda *news: told.append(news))
    assert [report.file.name for report in reports if report.problems] == ["m33.yaml"]
    assert len(reports) == 65
    assert ("configs", 60, 62) in told


def test_an_import_that_hangs_is_a_fault(tmp_path: Path) -> None:
    """At its time limit, and the others are checked all the same."""
    text = HONEST["recursive, partial and positional"] + "slow: {_target_: app.slow.Model}\n"
    lay_out(text + "== src/app/slow.py\nimport time\ntime.sleep(600)\n", tmp_path)
    (report,) = examine([tmp_path], step_seconds=8)
    (problem,) = report.problems
    assert "app.slow.Model ended the process: was silent for 8 s" in problem.text


def test_building_finds_what_signatures_do_not_say(tmp_path: Path) -> None:
    """A constructor that raises, at the line of the config and of the code."""
    text = """
== conf/config.yaml
defaults: [{model: good}, _self_]
optimizer: {_target_: app.parts.Optimizer, _partial_: true}
later:
  _target_: app.parts.Data
  path: ???
== conf/model/good.yaml
_target_: app.picky.Model
dim: 4
== conf/model/odd.yaml
_target_: app.picky.Model
dim: 3
== src/app/picky.py
class Model:
    def __init__(self, dim):
        if dim % 2:
            raise ValueError("dim must be even")
"""
    lay_out(text, tmp_path)
    assert all(report.outcome == "passed" for report in examine([tmp_path]))
    reports = {report.file.name: report for report in examine([tmp_path], instantiate=True)}
    (problem,) = reports["odd.yaml"].problems
    assert problem.line == 1
    assert "picky.py:4 with ValueError: dim must be even" in problem.text
    assert reports["config.yaml"].outcome == reports["good.yaml"].outcome == "passed"
    assert "later wasn't built" in " ".join(reports["config.yaml"].notes)
