from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.unit.environments import packing

from tunematrix.versions.apart import MovingGroup, SetStep, step
from tunematrix.versions.asked import AsItIs
from tunematrix.versions.between import End
from tunematrix.versions.bisecting import Bisecting
from tunematrix.versions.index import Index
from tunematrix.versions.sets import Beneath, PackageSet

BELOW = Beneath(PackageSet({}), frozenset(), ("trl", "peft"))
OLD = {"trl": "1", "hub": "1", "peft": "1", "pinned": "1", "core": "1"}
NEW = {"trl": "2", "hub": "2", "peft": "2", "pinned": "2", "core": "2", "typer": "1"}


@pytest.fixture
def _index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wheels of packages that need each other, in two releases each."""
    wheels = tmp_path / "wheels"
    for release, other in (("1", "1"), ("2", "2")):
        packing.wheel(wheels, "hub", release, ["typer"] if release == "2" else [])
        packing.wheel(wheels, "trl", release, [f"hub=={other}"])
        packing.wheel(wheels, "peft", release)
        packing.wheel(wheels, "pinned", release, [f"core=={other}"])
        packing.wheel(wheels, "core", release)
    packing.wheel(wheels, "typer", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)


@pytest.mark.usefixtures("_index")
def test_what_moves_with_what() -> None:
    """A package comes with what it asks for, and what is new only with what asks for it."""
    near, far = PackageSet(OLD), PackageSet(NEW)
    found = step(NEW, near, far, Index(), BELOW)
    moved = {one.name: set(one.moved) for one in found.groups}
    assert moved["peft"] == {"peft"}
    assert moved["trl"] == {"trl", "hub", "typer"}
    assert moved["core"] == {"core", "pinned"}
    assert "typer" not in moved
    assert found.moved(found.groups) is far
    alone = next(one for one in found.groups if one.name == "trl")
    assert found.moved([alone]).versions == {**OLD, "trl": "2", "hub": "2", "typer": "1"}


@dataclass
class Judge:
    """Tells a set bad by what is in it, and counts the sets that it was asked about.

    Attributes:
        culprits: packages whose new release is needed for a set to be bad.
    """

    culprits: frozenset[str]
    asked: set[str] = field(default_factory=set)
    left: int = 0

    @property
    def bench(self) -> Judge:
        """Where progress goes."""
        return self

    def say(self, text: str) -> None:
        """Take a line of progress."""

    @property
    def below(self) -> Beneath:
        """The environment."""
        return BELOW

    def is_bad(self, packages: PackageSet) -> bool:
        """Whether all that is needed is new."""
        self.asked.add(packages.digest)
        return all(packages.versions[name] == "2" for name in self.culprits)


def _way(near: PackageSet, far: PackageSet, judge: Judge) -> Bisecting:
    older, newer = End(AsItIs(), near), End(AsItIs(), far)
    return Bisecting(older, newer, False, judge, Index())  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8, 13])
def test_of_packages_that_move_at_once(count: int) -> None:
    """One is found by halving, and then tried alone; two that are needed are both found."""
    names = [f"p{number:02}" for number in range(count)]
    near, far = (PackageSet(dict.fromkeys(names, release)) for release in "12")
    groups = tuple(MovingGroup(name, frozenset([name])) for name in names)
    for one in names:
        judge = Judge(frozenset([one]))
        change = _way(near, far, judge)._needed(SetStep(near, far, groups), known=0)
        assert change.names == (one,)
        assert change.far.versions == {**near.versions, one: "2"}
        assert len(judge.asked) <= math.ceil(math.log2(count)) + 1
    judge = Judge(frozenset([names[0], names[-1]]))
    change = _way(near, far, judge)._needed(SetStep(near, far, groups), known=0)
    assert {*change.names} == judge.culprits


def test_what_asks_for_the_others_needs_no_run_more() -> None:
    """As a release does that brings all others of its step: it was tried as the last one."""
    names = ["hub", "more", "trl"]
    near, far = (PackageSet(dict.fromkeys(names, release)) for release in "12")
    groups = (
        MovingGroup("hub", frozenset(["hub"])),
        MovingGroup("more", frozenset(["more"])),
        MovingGroup("trl", frozenset(names)),
    )
    judge = Judge(frozenset(["trl"]))
    change = _way(near, far, judge)._needed(SetStep(near, far, groups), known=1)
    assert (change.names, change.far) == (("trl",), far)
    assert not judge.asked
