"""Histories of releases that are made up, with an installer and a cell over them; no package is."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tunematrix.versions.asked import OnDay
from tunematrix.versions.between import End
from tunematrix.versions.index import Index, Release
from tunematrix.versions.judging import SetJudge, Shown
from tunematrix.versions.points import Point
from tunematrix.versions.resolving import NoSuchSet, Wanted
from tunematrix.versions.sets import Beneath, PackageSet
from tunematrix.versions.signature import Signature

START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 300
POINT = Point("some.yaml::cell", "cell")
GOOD, BAD = Signature("passed"), Signature("failed", ("labels",))


@dataclass(frozen=True)
class History:
    """Releases of some packages, 1, 2, 3 and so on, and what each asks for.

    Attributes:
        published: package to the hours after START at which its releases came, ascending.
        least: (package, release) to (another, the least release of it that it takes).
    """

    published: Mapping[str, Sequence[int]]
    least: Mapping[tuple[str, int], tuple[str, int]] = field(default_factory=dict)

    @property
    def index(self) -> Index:
        """An index that has been asked for all of them."""
        index = Index()
        for name, hours in self.published.items():
            days = (START + timedelta(hours=hour) for hour in hours)
            found = (Release(Version(str(n)), day) for n, day in enumerate(days, start=1))
            index._known[name] = tuple(found)
        return index

    def end(self, day: int) -> End:
        """What an installer would have taken at the end of a day."""
        when = START + timedelta(days=day, hours=23, minutes=59)
        before = when.strftime("%Y-%m-%dT%H:%M:%SZ")
        return End(OnDay(date(2026, 1, 1) + timedelta(days=day)), self.solve(Wanted(before=before)))

    def solve(self, wanted: Wanted, below: object = None, text: str = "") -> PackageSet:
        """Choose the newest that fits, or what is preferred, as uv does."""
        names, choices = list(self.published), list[list[int]]()
        for name in names:
            bound = SpecifierSet(wanted.bounds.get(name, ""))
            there = [
                n
                for n, hour in enumerate(self.published[name], start=1)
                if bound.contains(str(n)) and _is_before(hour, wanted.before)
            ]
            kept = wanted.preferred.versions.get(name) if wanted.preferred else None
            choices.append(sorted(there, key=lambda n: (str(n) != kept, -n)))
        for chosen in self._fitting(names, choices, {}):
            return PackageSet({n: str(v) for n, v in chosen.items()}, asked=text or "an end")
        raise NoSuchSet(f"{text}: nothing fits", "nothing fits")

    def _fitting(
        self, names: Sequence[str], choices: Sequence[Sequence[int]], chosen: dict[str, int]
    ) -> Iterator[dict[str, int]]:
        if not names:
            yield chosen
            return
        for version in choices[0]:
            more = {**chosen, names[0]: version}
            if all(
                name not in more or more[name] != number or more.get(other, least) >= least
                for (name, number), (other, least) in self.least.items()
            ):
                yield from self._fitting(names[1:], choices[1:], more)


def _is_before(hour: int, moment: str | None) -> bool:
    return moment is None or START + timedelta(hours=hour) <= datetime.fromisoformat(moment)


class Progress:
    """Takes lines of progress, and knows the environment, which is empty."""

    def __init__(self, names: Sequence[str]) -> None:
        self.below, self.said = Beneath(PackageSet({}), frozenset(), tuple(names)), list[str]()

    def say(self, text: str) -> None:
        """Keep a line."""
        self.said.append(text)


class CellOfOne(SetJudge):
    """A cell that fails from some releases on, and can't be tried with some; counts its runs.

    Args:
        history: of the packages. culprits: package to its first bad release; all are needed.
        untestable: releases of packages with each of which nothing can be told.

    Attributes:
        told: at each run, how many there were before it, and how many were said to be left.
    """

    def __init__(
        self,
        history: History,
        culprits: Mapping[str, int],
        untestable: frozenset[tuple[str, int]] = frozenset(),
    ) -> None:
        super().__init__(Progress(list(history.published)), POINT)  # type: ignore[arg-type]
        self.culprits, self.cannot = culprits, untestable
        self.told = list[tuple[int, int]]()

    def _runs_of(self, packages: PackageSet, times: int) -> tuple[Shown, ...]:
        self.told.append((self.tried, self.left))
        self._times[packages.digest] = max(times, self._times.get(packages.digest, 0))
        return self.seen(packages) * times

    def seen(self, packages: PackageSet) -> tuple[Shown, ...]:
        """Tell how it ends with a set, as often as that is asked."""
        versions = {name: int(version) for name, version in packages.versions.items()}
        if not self.cannot.isdisjoint(versions.items()):
            return (Shown(None, "can't be imported"),)
        return (Shown(self.ends(versions)),)

    def ends(self, versions: Mapping[str, int]) -> Signature:
        """Tell how it ends with some versions."""
        is_bad = all(versions[name] >= first for name, first in self.culprits.items())
        return BAD if is_bad else GOOD


def some_history(generator: random.Random, most: int = 5) -> History:
    """Return a history of a few packages, some of whose releases came together or wait."""
    names = "abcdef"[: generator.randint(1, most)]
    shared = generator.sample(range(24 * DAYS), 4)
    published = {
        name: sorted(
            {
                generator.choice(shared) if generator.random() < 0.2 else hour
                for hour in generator.sample(range(24 * DAYS), generator.randint(1, 25))
            }
        )
        for name in names
    }
    published = {name: [-48, *hours] for name, hours in published.items()}
    least = dict[tuple[str, int], tuple[str, int]]()
    for _ in range(generator.randint(0, 4) if len(names) > 1 else 0):
        one, other = generator.sample(names, 2)
        number = generator.randint(2, len(published[one]))
        least[one, number] = (other, generator.randint(2, len(published[other])))
    return History(published, least)
