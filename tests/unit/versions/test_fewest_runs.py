"""How many runs a bisection takes, over histories that are made up; its own code does the rest."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import combinations

import pytest
from tests.unit.versions.conftest import FindAll
from tests.unit.versions.histories import BAD, DAYS, CellOfOne, History, some_history

from tunematrix.errors import StepFailed
from tunematrix.versions.ends import promised
from tunematrix.versions.found import Bisection
from tunematrix.versions.judging import Shown
from tunematrix.versions.sets import PackageSet

Find = Callable[..., Bisection]


@pytest.fixture
def find(find_all: FindAll) -> Find:
    """Bisects a history in which one thing is to be found."""

    def found(history: History, judge: CellOfOne) -> Bisection:
        (one,) = find_all(history, judge)
        return one

    return found


def _between(history: History, name: str) -> list[int]:
    """Return the releases of a package that come in on the way."""
    first, last = (int(history.end(day).packages.versions[name]) for day in (0, DAYS))
    return list(range(first + 1, last + 1))


def _names_it(found: Bisection, name: str, release: int) -> bool:
    names = {one.name for one in found.culprits} | {*found.carried}
    sides = (int(side.versions[name]) for side in (found.good, found.bad))
    return name in names and next(sides) < release <= next(sides)


@pytest.mark.each_time(6)
@pytest.mark.parametrize("seed", range(24))
def test_one_culprit(find: Find, seed: int) -> None:
    """Whichever release it is, it is found in ceil(log2 n) + 3 runs, ends and repeats included."""
    history = some_history(random.Random(seed))
    sets = 1 + sum(len(_between(history, name)) for name in history.published)
    for name in history.published:
        for release in _between(history, name):
            judge = CellOfOne(history, {name: release})
            found = find(history, judge)
            assert _names_it(found, name, release), (name, release, found.culprits)
            assert found.releases <= sets
            assert found.tried <= promised(found.releases), (name, release, found)
            assert all(run + left <= promised(found.releases) for run, left in judge.told)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8, 9, 16, 17])
def test_packages_that_move_at_one_moment(find: Find, count: int) -> None:
    """Of several releases that came together, one is found and tried alone, within the promise."""
    history = History({f"p{number:02}": [-48, 24 * 50] for number in range(count)})
    for name in history.published:
        judge = CellOfOne(history, {name: 2})
        found = find(history, judge)
        assert [one.name for one in found.culprits] == [name]
        assert (found.releases, found.carried) == (count + 1, ())
        assert found.tried <= promised(count + 1)


@pytest.mark.parametrize("count", [3, 8, 17])
def test_a_release_that_lets_others_jump(find: Find, count: int) -> None:
    """Those that another held back, and that then pass many releases at once, are halved too."""
    hours = [24 * day for day in range(1, count + 1)]
    held = {("gate", 1): ("gate", 1)} | {("held", n): ("gate", 2) for n in range(2, count + 2)}
    history = History({"gate": [-48, 24 * 200], "held": [-48, *hours]}, held)
    for release in range(2, count + 2):
        judge = CellOfOne(history, {"held": release})
        found = find(history, judge)
        (culprit,) = found.culprits
        assert (culprit.name, culprit.first_bad) == ("held", str(release))
        assert found.tried <= promised(count + 2)


@pytest.mark.parametrize("seed", range(16))
def test_sets_that_cannot_be_told(find: Find, seed: int) -> None:
    """Each that is met on the way takes one run more, and one besides at most."""
    generator = random.Random(seed)
    history = some_history(generator)
    places = [(name, n) for name in history.published for n in _between(history, name)]
    ends = {*history.end(0).packages.versions.items(), *history.end(DAYS).packages.versions.items()}
    inner = [(name, n) for name, n in places if (name, str(n)) not in ends]
    for name, release in places:
        broken = frozenset(generator.sample(inner, min(len(inner), generator.randint(1, 4))))
        judge = CellOfOne(history, {name: release}, broken)
        found = find(history, judge)
        assert _names_it(found, name, release), (name, release, found.culprits)
        assert found.tried <= promised(found.releases) + 2 * judge.untold, (name, release, found)


@pytest.mark.parametrize("seed", range(16))
def test_two_culprits(find: Find, seed: int) -> None:
    """Of two releases that are both needed, at least the one that came last is named."""
    generator = random.Random(seed)
    history = some_history(generator)
    names = [name for name in history.published if _between(history, name)]
    for _ in range(20 if len(names) > 1 else 0):
        some = generator.sample(names, 2)
        culprits = {name: generator.choice(_between(history, name)) for name in some}
        judge = CellOfOne(history, culprits)
        found = find(history, judge)
        assert judge.seen(found.good) != judge.seen(found.bad)
        assert any(_names_it(found, name, release) for name, release in culprits.items())


def test_two_that_came_together(find: Find) -> None:
    """Where neither alone does it, both are named."""
    history = History({f"p{number}": [-48, 24 * 50] for number in range(6)})
    for one, other in combinations(history.published, 2):
        found = find(history, CellOfOne(history, {one: 2, other: 2}))
        assert {culprit.name for culprit in found.culprits} == {one, other}


def test_a_cell_that_is_flaky(find: Find) -> None:
    """A good set that is bad when it runs once more ends the search, with advice."""
    history = History({"p": [-48, *(24 * day for day in range(1, 9))]})

    class Flaky(CellOfOne):
        def _runs_of(self, packages: PackageSet, times: int) -> tuple[Shown, ...]:
            seen = super()._runs_of(packages, times)
            return (*seen[1:], Shown(BAD)) if times > 1 else seen

    with pytest.raises(StepFailed, match="--repeat 5"):
        find(history, Flaky(history, {"p": 5}))
