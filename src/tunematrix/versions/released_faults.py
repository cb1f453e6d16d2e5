"""Faults that releases are known to have: which of them a set of versions brings, or leaves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from packaging.utils import canonicalize_name

from tunematrix.configuration.releases import covers

State: TypeAlias = Literal["has", "free", "unknown"]


@dataclass(frozen=True)
class ReleasedFault:
    """A fault of some releases.

    Attributes:
        link: where it is told; shows: what it does, in a sentence.
        releases: distribution to the range of its versions; all of them together have the fault.
        free: the same of those that don't; None: all others don't.
        checks: names of the checks that notice it; none where an exception does.
    """

    link: str
    shows: str
    releases: Mapping[str, str]
    free: Mapping[str, str] | None = None
    checks: tuple[str, ...] = ()

    def state(self, versions: Mapping[str, str]) -> State:
        """Return whether a set of versions, distribution to version, has the fault."""
        there = {canonicalize_name(name): version for name, version in versions.items()}

        def installed(name: str) -> str | None:
            return there.get(canonicalize_name(name))

        if covers(self.releases, installed):
            return "has"
        if self.free is None or any(installed(name) is None for name in self.releases):
            return "free"
        return "free" if self.free and covers(self.free, installed) else "unknown"


@dataclass(frozen=True)
class FaultsMoved:
    """Faults of two sets of versions.

    Attributes:
        entered: those that the new set has and the old one is free of.
        left: those that the old set has and the new one is free of.
        doubtful: those that the new set has, and of the old one nobody knows.
    """

    entered: tuple[ReleasedFault, ...] = ()
    left: tuple[ReleasedFault, ...] = ()
    doubtful: tuple[ReleasedFault, ...] = ()


def moved_faults(
    faults: Iterable[ReleasedFault], before: Mapping[str, str], after: Mapping[str, str]
) -> FaultsMoved:
    """Return which faults the way from one set of versions to another enters, and leaves.

    Several entries may be of one fault, each with its own releases: it counts once, by its link.
    """
    known: dict[str, list[ReleasedFault]] = {}
    for fault in faults:
        known.setdefault(fault.link, []).append(fault)
    found: dict[tuple[State, State], list[ReleasedFault]] = defaultdict(list)
    for entries in known.values():
        (old, one), (new, other) = _worst(entries, before), _worst(entries, after)
        found[old, new].append(one if old == "has" else other)
    steps: tuple[tuple[State, State], ...] = (("free", "has"), ("has", "free"), ("unknown", "has"))
    entered, left, doubtful = (tuple(found[step]) for step in steps)
    return FaultsMoved(entered, left, doubtful)


def _worst(
    entries: Iterable[ReleasedFault], versions: Mapping[str, str]
) -> tuple[State, ReleasedFault]:
    """Return the entry of a fault that says most of a set: that it has it, or may have it."""
    ranks: tuple[State, ...] = ("has", "unknown", "free")
    states = [(one.state(versions), one) for one in entries]
    return min(states, key=lambda pair: ranks.index(pair[0]))
