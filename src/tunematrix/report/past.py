"""What a history tells: how a cell has fared, and what differs between two runs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from tunematrix.results.record import Outcome, Record, hardware_of

ABSENT = "–"
"""Stands for what isn't there on one side."""
FIGURES = ("seconds", "process_peak_mb")
"""Metrics of which two runs of a suite are told how they differ."""
JUDGED: frozenset[Outcome] = frozenset({"passed", "failed", "error"})
"""Outcomes between which a cell can flip by chance."""


class Thread(NamedTuple):
    """What has to be the same for records to follow each other: drift is told in one of them."""

    cell_id: str
    environment: str
    hardware: str


class Moved(NamedTuple):
    """One thing that determines the figures, before and after; `ABSENT` where it wasn't there."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Stretch:
    """Records of one thread that follow each other with the same outcome.

    Attributes:
        records: at least one, oldest first.
        since: what else differs between its first record and the one before that.
    """

    records: tuple[Record, ...]
    since: tuple[Moved, ...]

    @property
    def outcome(self) -> Outcome:
        """That of all its records."""
        return self.records[0].outcome

    @property
    def last(self) -> Record:
        """The newest record."""
        return self.records[-1]


@dataclass(frozen=True)
class Flake:
    """A cell that ended otherwise in the next run, though nothing that is on record had changed."""

    before: Record
    after: Record


@dataclass(frozen=True)
class Flip:
    """A cell that ended otherwise in another run; None stands for a run without it."""

    cell_id: str
    before: Outcome | None
    after: Outcome | None
    reason: str


@dataclass(frozen=True)
class Ratio:
    """A metric in one run over that in another: the median of `cells`, and its extreme cell."""

    metric: str
    median: float
    cells: int
    extreme: float
    cell_id: str


@dataclass(frozen=True)
class RunComparison:
    """Two runs, side by side.

    Attributes:
        differences: of machine, versions.
        flips: cells that ended otherwise; same: how many ended alike.
        ratios: of metrics in cells that passed in both.
    """

    differences: tuple[Moved, ...]
    flips: tuple[Flip, ...]
    same: int
    ratios: tuple[Ratio, ...]


def threads(records: Iterable[Record]) -> dict[Thread, tuple[Stretch, ...]]:
    """Part records, oldest first, by what can be compared, and fold those that ended alike."""
    groups: dict[Thread, list[Record]] = {}
    for record in records:
        thread = Thread(record.cell_id, record.environment, hardware_of(record.machine))
        groups.setdefault(thread, []).append(record)
    return {thread: tuple(_stretches(group)) for thread, group in sorted(groups.items())}


def last_passed(stretches: Sequence[Stretch]) -> Record | None:
    """Return the newest record that passed."""
    passed = (stretch.last for stretch in reversed(stretches) if stretch.outcome == "passed")
    return next(passed, None)


def flake(before: Record, after: Record) -> Flake | None:
    """Return two records of one thread as a flake, if only chance can have told them apart."""
    outcomes = {before.outcome, after.outcome}
    known = all(record.versions and record.spec_digest for record in (before, after))
    flipped = len(outcomes) == 2 and "passed" in outcomes and outcomes <= JUDGED
    if not (flipped and known) or any(_differences(before, after)):
        return None
    return Flake(before, after)


def flakes(stretches: Sequence[Stretch]) -> tuple[Flake, ...]:
    """Return all of one thread, oldest first."""
    pairs = pairwise(stretches)
    found = (flake(old.last, new.records[0]) for old, new in pairs)
    return tuple(one for one in found if one is not None)


def compared(before: Sequence[Record], after: Sequence[Record]) -> RunComparison:
    """Hold one run against another: what determined them, how cells ended, and their figures."""
    old, new = ({record.cell_id: record for record in side} for side in (before, after))
    flips = [
        Flip(name, _outcome(old.get(name)), _outcome(new.get(name)), _reason(new.get(name)))
        for name in dict.fromkeys([*old, *new])
        if _outcome(old.get(name)) != _outcome(new.get(name))
    ]
    both = [(old[name], new[name]) for name in old if name in new]
    passed = [pair for pair in both if all(record.outcome == "passed" for record in pair)]
    return RunComparison(
        differences=tuple(_of_runs(before, after)),
        flips=tuple(flips),
        same=sum(first.outcome == second.outcome for first, second in both),
        ratios=tuple(ratio for name in FIGURES if (ratio := _ratio(name, passed)) is not None),
    )


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Moved]:
    """Yield what differs between two mappings, by name."""
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before != after:
            yield Moved(name, *(ABSENT if one is None else str(one) for one in (before, after)))


def _differences(before: Record, after: Record) -> Iterator[Moved]:
    """Yield what else differs between two records of one thread; nothing of what isn't known."""
    for old, new in ((before.machine, after.machine), (before.versions, after.versions)):
        if old and new:
            yield from differing(old, new)
    yield from differing(before.overrides, after.overrides)
    if before.faults != after.faults:
        yield Moved("faults", *(", ".join(one.faults) or "–" for one in (before, after)))
    old_spec, new_spec = before.spec_digest, after.spec_digest
    if old_spec and new_spec and old_spec != new_spec:
        yield Moved("its spec", old_spec[:8], new_spec[:8])


def _of_runs(before: Sequence[Record], after: Sequence[Record]) -> Iterator[Moved]:
    """Yield what differs of machine and versions between all that ran, and is alike within each."""
    sides = [
        [{**record.machine, **record.versions} for record in records if record.versions]
        for records in (before, after)
    ]
    if not all(sides):
        return
    for name in sorted({name for side in sides for facts in side for name in facts}):
        old, new = ({str(facts.get(name, "–")) for facts in side} for side in sides)
        if len(old) == len(new) == 1 and old != new:
            yield Moved(name, old.pop(), new.pop())


def _stretches(records: Sequence[Record]) -> Iterator[Stretch]:
    start, ended = 0, len(records)
    for place in range(1, ended + 1):
        if place == ended or records[place].outcome != records[start].outcome:
            since = _differences(records[start - 1], records[start]) if start else ()
            yield Stretch(tuple(records[start:place]), tuple(since))
            start = place


def _outcome(record: Record | None) -> Outcome | None:
    return None if record is None else record.outcome


def _reason(record: Record | None) -> str:
    return "" if record is None else record.reason


def _ratio(metric: str, pairs: Iterable[tuple[Record, Record]]) -> Ratio | None:
    ratios = {
        new.cell_id: new.metrics[metric] / old.metrics[metric]
        for old, new in pairs
        if old.metrics.get(metric, 0) > 0 and new.metrics.get(metric, 0) > 0
    }
    if not ratios:
        return None
    name = max(ratios, key=lambda one: max(ratios[one], 1 / ratios[one]))
    return Ratio(metric, statistics.median(ratios.values()), len(ratios), ratios[name], name)
