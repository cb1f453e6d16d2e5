"""--shard K/N, and the variable that switches real trainers on and off."""

from __future__ import annotations

import pytest
from tests.plugin.conftest import NewProject, Project

from tunematrix.plugin.portions import shard

REAL = "markers: [integration]\n"


@pytest.fixture(scope="module")
def suite(new_project: NewProject) -> Project:
    """Four specs, one of them a real trainer, one of them with two cells."""
    project = new_project()
    project.spec("a", "succeed", "markers: []\n", quantizers="[plain, tiny-int4]")
    project.spec("b", "succeed", "markers: []\n")
    project.spec("c", "succeed", "markers: []\n")
    project.spec("real", "succeed", REAL)
    return project


def listed(project: Project, *arguments: str, **variables: str) -> set[str]:
    """The cells that would run."""
    run = project.pytest("--collect-only", "-q", *arguments, **variables)
    return {line.partition("::")[2] for line in run.collected}


def test_each_cell_is_in_one_part(suite: Project) -> None:
    """The parts are the suite, cut between files, and about equally large."""
    whole = listed(suite)
    parts = [listed(suite, f"--shard={number}/2") for number in (1, 2)]
    assert parts[0] | parts[1] == whole
    assert parts[0] & parts[1] == set()
    assert sorted(map(len, parts)) == [2, 3]
    assert listed(suite, "--shard", "1/1") == whole


@pytest.mark.parametrize("text", ["0/2", "3/2", "half", "1/0", "-1/2"])
def test_no_such_part(text: str) -> None:
    """What would run nothing, or everything, is refused."""
    with pytest.raises(ValueError, match=f"such as 1/3 or 3/3, got {text}"):
        shard(text)


def test_a_part_on_the_command_line(suite: Project) -> None:
    """It is refused as pytest refuses options."""
    run = suite.pytest("--shard=3/2")
    assert run.code == 4
    assert "expected a part and their number, such as 1/3 or 3/3, got 3/2" in run.text


def test_more_parts_than_files(suite: Project) -> None:
    """A part that would be empty is no success."""
    run = suite.pytest("--shard=5/5")
    assert run.code == 4
    assert "--shard 5/5: only 4 files are there with something to run" in run.text


@pytest.mark.parametrize(
    ("value", "expression", "real", "others"),
    [
        ("0", "", False, True),
        ("0", "integration", False, False),
        ("1", "not integration and not relation", True, True),
    ],
)
def test_the_switch(
    suite: Project, value: str, expression: str, *, real: bool, others: bool
) -> None:
    """0 leaves real trainers out, 1 runs them in spite of a `not`; unset, -m decides."""
    cells = listed(suite, "-m", expression, TUNEMATRIX_INTEGRATION=value)
    assert ("real[plain-plain]" in cells) is real
    assert ("b[plain-plain]" in cells) is others


@pytest.mark.each_time(2)
@pytest.mark.parametrize(
    ("arguments", "value", "real"),
    [
        ((), "", False),
        (("-m", "integration"), "", True),
        (("-m", "not (integration and slow)"), "", False),
        ((), "1", True),
        ((), "0", False),
    ],
)
def test_left_out_by_default(
    suite: Project, arguments: tuple[str, ...], value: str, *, real: bool
) -> None:
    """A project's setting is the weakest word: -m and the variable are stronger."""
    off = "--override-ini=tunematrix_integration=false"
    cells = listed(suite, off, *arguments, TUNEMATRIX_INTEGRATION=value)
    assert ("real[plain-plain]" in cells) is real


def test_a_switch_in_between(suite: Project) -> None:
    """Anything else is refused."""
    run = suite.pytest(TUNEMATRIX_INTEGRATION="maybe")
    assert run.code == 4
    assert "TUNEMATRIX_INTEGRATION=maybe: expected 0 (leave real trainers out) or 1" in run.text
