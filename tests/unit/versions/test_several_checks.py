"""Which releases a bisection names where several checks fail, over histories that are made up."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

import pytest
from tests.unit.versions.conftest import FindAll
from tests.unit.versions.histories import DAYS, CellOfOne, History, some_history

from tunematrix.results.record import Outcome
from tunematrix.versions.ends import promised
from tunematrix.versions.signature import Signature


class CellOfSeveral(CellOfOne):
    """A cell each of whose checks fails from a release of its own on.

    Args:
        history: of the packages. blamed: check to the package and its first bad release.
        is_mended: whether they fail up to these releases instead.
        check: the only one that decides; empty for all.
    """

    def __init__(
        self,
        history: History,
        blamed: Mapping[str, tuple[str, int]],
        *,
        is_mended: bool = False,
        check: str = "",
    ) -> None:
        super().__init__(history, {})
        self.blamed, self.is_mended, self.check = blamed, is_mended, check

    def ends(self, versions: Mapping[str, int]) -> Signature:
        """Tell how it ends with some versions."""
        failed = [
            check
            for check, (name, first) in sorted(self.blamed.items())
            if (versions[name] < first) is self.is_mended
        ]
        outcome: Outcome = "failed" if failed else "passed"
        return Signature(outcome, tuple(failed), passed=frozenset(self.blamed) - {*failed})


def _releases(history: History) -> list[tuple[str, int]]:
    """Return the releases that come in on the way from the first day to the last one."""
    first, last = (history.end(day).packages.versions for day in (0, DAYS))
    return [(name, n) for name in first for n in range(int(first[name]) + 1, int(last[name]) + 1)]


@pytest.mark.each_time(4)
@pytest.mark.parametrize("is_mended", [False, True], ids=["broken", "mended"])
@pytest.mark.parametrize("seed", range(12))
def test_each_check_gets_its_release(find_all: FindAll, seed: int, *, is_mended: bool) -> None:
    """Every check is told once, between the right sets, each release within the promised runs."""
    generator = random.Random(seed)
    history = some_history(generator)
    places, ends = _releases(history), (DAYS, 0) if is_mended else (0, DAYS)
    for _ in range(10 if places else 0):
        blamed = {name: generator.choice(places) for name in ("gradient", "labels", "merge")}
        judge = CellOfSeveral(history, blamed, is_mended=is_mended)
        found = find_all(history, judge, *ends)
        assert sorted(check for one in found for check in one.checks) == sorted(blamed)
        for one in found:
            for check in one.checks:
                name, release = blamed[check]
                sides = sorted(int(side.versions[name]) for side in (one.good, one.bad))
                assert sides[0] < release <= sides[1], (check, one)
            assert one.tried <= promised(one.releases), one
            assert one.mended is is_mended


def test_the_nearest_to_the_good_end_comes_first(find_all: FindAll) -> None:
    """What is found later lies further towards the bad end; what is known already is counted."""
    history = History({"p": [-48, *(24 * day for day in range(1, 40))]})
    judge = CellOfSeveral(history, {"merge": ("p", 30), "labels": ("p", 4)})
    found = find_all(history, judge)
    assert [(one.checks, one.culprits[0].first_bad) for one in found] == [
        (("labels",), "4"),
        (("merge",), "30"),
    ]
    assert [one.releases for one in found] == [40, 37]


def test_one_check_alone(find_all: FindAll) -> None:
    """With a check that is named, the others aren't looked for."""
    history = History({"p": [-48, *(24 * day for day in range(1, 40))]})
    judge = CellOfSeveral(history, {"merge": ("p", 30), "labels": ("p", 4)}, check="merge")
    (found,) = find_all(history, judge)
    assert (found.checks, found.culprits[0].first_bad) == (("merge",), "30")


def test_a_check_that_a_relation_does_not_heed(find_all: FindAll) -> None:
    """What still fails in an arm of a relation that passes isn't told to have been mended."""

    class Relation(CellOfSeveral):
        def ends(self, versions: Mapping[str, int]) -> Signature:
            seen = super().ends(versions)
            return seen if "labels" in seen.checks else replace(seen, outcome="passed")

    history = History({"p": [-48, *(24 * day for day in range(1, 40))]})
    blamed = {"gradient": ("p", 30), "labels": ("p", 4)}
    (found,) = find_all(history, Relation(history, blamed, is_mended=True), DAYS, 0)
    assert (found.checks, found.culprits[0].last_good) == (("labels",), "4")
