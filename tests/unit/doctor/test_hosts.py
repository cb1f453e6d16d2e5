"""Environments against this machine, and how far their virtualenvs are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tunematrix.doctor.hosts import is_worth_a_line, look_at
from tunematrix.environments.building import UNFINISHED
from tunematrix.environments.host import Probe
from tunematrix.environments.table import Environment
from tunematrix.matrix.groups import Groups

HERE = Probe(looking_for="this system")
NOWHERE = Probe(looking_for="Plan 9", advice="buy one", machines=("plan9 mips",))


def test_a_machine_that_an_environment_fits(tmp_path: Path, groups: Groups) -> None:
    """With a noxfile, its session is the command."""
    (tmp_path / "noxfile.py").touch()
    found = look_at(Environment("one", "Words", ("one",), host=HERE), tmp_path, groups)
    assert (found.possible, found.obstacle, found.command) == (True, None, "nox -s one")
    assert (found.description, found.virtualenv, found.active) == ("Words", "absent", False)


def test_a_machine_that_it_does_not_fit(tmp_path: Path, groups: Groups) -> None:
    """What was looked for, what was found and what to do."""
    found = look_at(Environment("one", "", ("one",), host=NOWHERE), tmp_path, groups)
    assert found.possible is False
    assert found.obstacle is not None
    assert (found.obstacle.looked_for, found.obstacle.to_do) == ("Plan 9", "buy one")
    assert found.obstacle.found


def test_a_machine_that_nobody_has_asked_anything_of(tmp_path: Path, groups: Groups) -> None:
    """Is not said to be fit; without a noxfile its backends are installed by hand."""
    found = look_at(Environment("one", "", ("one", "other", "gone")), tmp_path, groups)
    assert (found.possible, found.obstacle, found.command) == (None, None, "pip install one")


def test_a_command_that_proves_a_device_is_run(tmp_path: Path, groups: Groups) -> None:
    """A tool that is there and finds no device rules the environment out."""
    code = "print('no devices were found')"
    probe = Probe(command=(sys.executable, "-c", code), proof="GPU 0")
    found = look_at(Environment("one", "", ("one",), host=probe), tmp_path, groups)
    assert found.possible is False
    assert found.obstacle is not None
    assert "no devices were found" in found.obstacle.found


@pytest.mark.parametrize(
    ("stamp", "state"), [(None, "unfinished"), (UNFINISHED, "unfinished"), ("4be1", "built")]
)
def test_a_virtualenv(tmp_path: Path, groups: Groups, stamp: str | None, state: str) -> None:
    """Built, or left by half."""
    virtualenv = tmp_path / ".nox" / "one"
    virtualenv.mkdir(parents=True)
    if stamp is not None:
        (virtualenv / "tunematrix-build").write_text(stamp)
    assert look_at(Environment("one", "", ("one",)), tmp_path, groups).virtualenv == state


def test_the_virtualenv_that_this_is(tmp_path: Path, groups: Groups) -> None:
    """However it is reached."""
    (tmp_path / ".nox").mkdir()
    (tmp_path / ".nox" / "one").symlink_to(sys.prefix)
    assert look_at(Environment("one", "", ("one",)), tmp_path, groups).active


def test_variants_are_shown_once_built(tmp_path: Path) -> None:
    """Eight lines that nobody has asked for would hide the four that count."""
    latest = Environment("one-latest", "", ("one",), variant="latest")
    assert is_worth_a_line(Environment("one", "", ("one",)), tmp_path)
    assert not is_worth_a_line(latest, tmp_path)
    (tmp_path / ".nox" / "one-latest").mkdir(parents=True)
    assert is_worth_a_line(latest, tmp_path)
