from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from packaging.version import Version

from tunematrix.versions.asked import AsItIs, Asked, ByLock, ByPins, OnDay
from tunematrix.versions.between import End, differing, moments, ranges, within
from tunematrix.versions.ends import is_older, named_by
from tunematrix.versions.index import Index, Release
from tunematrix.versions.sets import PackageSet


def _index(**packages: dict[str, str]) -> Index:
    """An index that has been asked already: version to day, by package; no day for none known."""
    index = Index()
    index._known = {
        name: tuple(
            Release(Version(v), datetime.fromisoformat(day).replace(tzinfo=UTC) if day else None)
            for v, day in days.items()
        )
        for name, days in packages.items()
    }
    return index


INDEX = _index(
    wobble={"1": "2026-01-05", "2": "2026-02-01", "2.1": "2026-06-01", "3": "2026-03-01"},
    wibble={"1": "2026-01-05", "2": "2026-02-01", "3": "2026-04-01", "4": "2026-05-01"},
    files={"1": "", "2": ""},
)


def _end(asked: Asked | None = None, **versions: str) -> End:
    return End(asked or AsItIs(), PackageSet(versions))


def test_moments() -> None:
    """Each time something was released between the versions of both ends counts once."""
    older, newer = _end(wobble="1", wibble="1"), _end(wobble="3", wibble="3")
    found = {f"{when:%m-%d}": what for when, what in moments(older, newer, INDEX).items()}
    # Wobble 2.1 came after both, wibble 4 is beyond, and those of the ends are no candidates.
    assert found == {"02-01": ["wibble 2", "wobble 2"], "03-01": ["wobble 3"]}


def test_days_bound_them() -> None:
    """Of two days, what was released between those counts."""
    older = _end(OnDay(date(2026, 1, 31)), wobble="1", wibble="1")
    newer = _end(OnDay(date(2026, 3, 1)), wobble="3", wibble="2")
    found = [f"{when:%m-%d}" for when in moments(older, newer, INDEX)]
    assert found == ["02-01", "03-01"]


def test_no_days() -> None:
    """Where no index says when, there are no moments."""
    assert moments(_end(files="1"), _end(files="2"), INDEX) == {}


def test_releases_between() -> None:
    """Both versions included, whichever is the later one; none where a version is no version."""
    one, other = PackageSet({"wobble": "3"}), PackageSet({"wobble": "2"})
    assert [str(r.version) for r in within("wobble", one, other, INDEX)] == ["2", "2.1", "3"]
    odd = PackageSet({"wobble": "2_conda"})
    assert within("wobble", one, odd, INDEX) == []


def test_what_differs() -> None:
    """Other versions, and what one of them lacks."""
    one, other = PackageSet({"a": "1", "b": "1", "c": "1"}), PackageSet({"a": "1", "b": "2"})
    assert differing(one, other) == ["b", "c"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (_end(wobble="1", wibble="3"), _end(wobble="3", wibble="4")),
        (_end(OnDay(date(2026, 1, 31)), wobble="3"), _end(OnDay(date(2026, 2, 1)), wobble="1")),
        (_end(ByPins({"wobble": "2"}), wobble="2"), _end(ByPins({"wobble": "2.1"}), wobble="2.1")),
        (_end(files="1"), _end(files="2")),
    ],
)
def test_which_is_older(one: End, other: End) -> None:
    """The days tell; where a set was named by its versions, or there are no days, those do."""
    assert is_older(one, other, INDEX)
    assert not is_older(other, one, INDEX)


def test_what_both_name() -> None:
    """Packages count as named only if both ends name such, or are the environment as it is."""
    pins, more = ByPins({"wobble": "1"}), ByPins({"wibble": "1"})
    assert named_by(pins, more) == ["wibble", "wobble"]
    assert named_by(pins, AsItIs()) == ["wobble"]
    assert named_by(pins, OnDay(date(2026, 1, 1))) == []
    assert named_by(ByLock(Path("uv.lock")), pins) == []


def test_ranges() -> None:
    """What is in both sets moves between its two versions, in whatever order they come."""
    one, other = PackageSet({"a": "2", "b": "1", "c": "1"}), PackageSet({"a": "1.5", "b": "1"})
    assert ranges(one, other) == {"a": ">=1.5,<=2"}
