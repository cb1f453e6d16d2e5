"""Lines of records → the newest runs, and what earlier runs tell of the same cells.

A first pass reads the head of each line, which is cheap; a second one reads the records of the few
runs that are shown, and keeps them in short. Whole ones are read once more, one after the other, by
whoever writes them down. So a hundred thousand records need little time and memory.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from tunematrix.evidence.figures import LONGEST_TAIL
from tunematrix.report.html.payload import FIGURES, PastPoint
from tunematrix.report.rows import Run, moment_of, runs
from tunematrix.results.head import RecordHead, head_of
from tunematrix.results.record import Outcome, Record, hardware_of
from tunematrix.results.remembered import Shortening
from tunematrix.results.run_line import Tally, host_of
from tunematrix.results.store import parsed

Lines: TypeAlias = Callable[[], Iterable[tuple[bytes, str]]]
"""A source of lines, each with the place where it stands; it is read several times."""
Name: TypeAlias = tuple[str, str, str]
"""A run: its environment, its id and its machine, which is empty where nothing ran."""

LARGEST = sys.float_info.max
PARITY = "parity_"
"""What the names of the metrics begin with that the recipe `parity` records."""
_NAMES = frozenset(figure.name for figure in FIGURES)
MOST_PAST = 30
"""Earlier runs that a cell shows."""
MOST_CELLS = 5_000
"""Cells that are shown in full; older runs beyond these are named, and left out."""


@dataclass(frozen=True)
class ShownThread:
    """All that is known of one environment on one hardware.

    Attributes:
        newest: its newest run; before: the one before that, None where there is none; both without
            what no comparison looks at.
        past: cell to what earlier runs came to, oldest first; earlier: how many of them.
        whole: reads the records of the newest run once more, as they are.
    """

    newest: Run
    before: Run | None
    past: Mapping[str, tuple[PastPoint, ...]]
    earlier: int
    whole: Callable[[], Iterable[Record]]


@dataclass(frozen=True)
class Gathered:
    """What was found in all sources.

    Attributes:
        threads: in the order of first appearance.
        left_out: runs that are newest ones, and too many to be shown.
    """

    threads: tuple[ShownThread, ...]
    left_out: tuple[Name, ...]


_Point: TypeAlias = tuple[Outcome, tuple[float | None, ...]]
_Place: TypeAlias = int
"""Of a line among all sources: whole numbers take the least room."""
_SOURCE = 1 << 40
"""More lines than any source has."""


@dataclass
class _Heads:
    """A run as far as the heads of its records tell: cell to where it stands, and to its point.

    Of a run on several machines, the tally is of the whole.
    """

    tally: Tally = field(default_factory=Tally)
    hardware: str = ""
    places: dict[str, _Place] = field(default_factory=dict)
    points: dict[str, _Point] = field(default_factory=dict)


def gather(sources: Sequence[Lines]) -> Gathered:
    """Read all sources, and part what is in them by environment and hardware.

    Of a cell that a run has recorded twice, or that stands in two sources, the last counts.

    Raises:
        BadInput: a line isn't a record; the text says where it stands.
    """
    found = _heads(sources)
    threads: dict[tuple[str, str], list[Name]] = {}
    for name, run in found.items():
        threads.setdefault((name[0], run.hardware), []).append(name)
    # Names of runs begin with the time; of others, the order of recording is all that is known.
    ordered = [sorted(names, key=lambda name: moment_of(name[1])) for names in threads.values()]
    kept, left_out = _within_room(ordered, found)
    newest, before = ({names[-one] for names in kept if len(names) >= one} for one in (1, 2))
    for name, run in found.items():
        if name in newest:
            run.points.clear()  # it is nobody's past
    memory = Shortening(metrics=_is_compared, checks=frozenset(["gap_closed"]))
    parts: dict[Name, list[Record]] = {}
    for name, record in _records(sources, found, newest | before):
        short = memory.short(replace(record, checks=record.checks if name in newest else ()))
        parts.setdefault(name, []).append(short)
    # By the run's name: a cell's last record, which counts, may know its machine by half.
    whole = {
        name: replace(run, interrupted=found[name].tally.interrupted)
        for name, part in parts.items()
        for run in runs(part)
    }
    shown = (_thread(names, found, whole, sources) for names in kept)
    return Gathered(tuple(shown), tuple(names[-1] for names in left_out))


def _heads(sources: Sequence[Lines]) -> dict[Name, _Heads]:
    found: dict[Name, _Heads] = {}
    tallies = defaultdict[tuple[str, str], Tally](Tally)
    for number, source in enumerate(sources):
        for position, (line, place) in enumerate(source()):
            head = head_of(line, place)
            host = host_of(head.machine) if head.versions else ""
            tally = tallies[head.environment, head.run_id]
            run = found.setdefault((head.environment, head.run_id, host), _Heads(tally))
            cell = sys.intern(head.cell_id)
            tally.enter(cell, head.planned)
            run.places[cell] = number * _SOURCE + position
            run.points[cell] = (head.outcome, _figures(head))
            # Whatever never ran knows its machine by half.
            if head.versions or not run.hardware:
                run.hardware = hardware_of(head.machine)
    return _with_what_never_ran(found)


def _with_what_never_ran(found: dict[Name, _Heads]) -> dict[Name, _Heads]:
    """Add what never ran, and knows its machine by half, to the first machine of its run."""
    first: dict[tuple[str, str], Name] = {}
    for name in found:
        if name[2]:
            first.setdefault(name[:2], name)
    kept: dict[Name, _Heads] = {}
    for name, run in found.items():
        into = first.get(name[:2], name) if not name[2] else name
        whole = kept.setdefault(into, _Heads(run.tally, found[into].hardware))
        for cell, place in run.places.items():
            if place >= whole.places.get(cell, place):  # the last counts
                whole.places[cell], whole.points[cell] = place, run.points[cell]
    return kept


def _figures(head: RecordHead) -> tuple[float | None, ...]:
    values = (head.metrics.get(figure.name) for figure in FIGURES)
    # A whole number may be larger than any float, which `isfinite` can't be asked about.
    return tuple(
        value if isinstance(value, int | float) and abs(value) <= LARGEST else None
        for value in values
    )


def _within_room(
    ordered: Sequence[list[Name]], found: dict[Name, _Heads]
) -> tuple[list[list[Name]], list[list[Name]]]:
    """Part threads into those that are shown and those that there is no room for, older ones."""
    room, kept = MOST_CELLS, set[int]()
    by_age = sorted(range(len(ordered)), key=lambda one: ordered[one][-1][1], reverse=True)
    for one in by_age:
        room -= len(found[ordered[one][-1]].places)
        if room >= 0 or not kept:
            kept.add(one)
    return (
        [names for one, names in enumerate(ordered) if one in kept],
        [names for one, names in enumerate(ordered) if one not in kept],
    )


def _records(
    sources: Sequence[Lines], found: Mapping[Name, _Heads], wanted: Collection[Name]
) -> Iterator[tuple[Name, Record]]:
    """Yield whole records of some runs, in the order of recording, each with its run."""
    shown = {place: name for name in wanted for place in found[name].places.values()}
    for number, source in enumerate(sources):
        for position, (line, where) in enumerate(source(), number * _SOURCE):
            if (name := shown.get(position)) is not None:
                record = parsed(line, where)
                # What somebody else has written may be of any length.
                yield name, replace(record, stderr=record.stderr[-LONGEST_TAIL:])


def _thread(
    names: Sequence[Name],
    found: Mapping[Name, _Heads],
    whole: Mapping[Name, Run],
    sources: Sequence[Lines],
) -> ShownThread:
    newest = names[-1]
    earlier = [(name[1], found[name].points) for name in names[:-1][-MOST_PAST:]]
    before = whole[names[-2]] if len(names) > 1 else None

    def records() -> Iterator[Record]:
        return (record for _, record in _records(sources, found, [newest]))

    return ShownThread(whole[newest], before, Past(earlier), len(names) - 1, records)


class Past(Mapping[str, tuple[PastPoint, ...]]):
    """Cell to what earlier runs came to, oldest first; made when somebody asks for it.

    Args:
        runs: the id of each, and its points.
    """

    def __init__(self, runs: Sequence[tuple[str, Mapping[str, _Point]]]) -> None:
        self._runs = runs

    def __getitem__(self, cell: str) -> tuple[PastPoint, ...]:
        """Return what a cell came to."""
        points = tuple(
            PastPoint(run, moment_of(run), *_shown_point(each[cell]))
            for run, each in self._runs
            if cell in each
        )
        if not points:
            raise KeyError(cell)
        return points

    def __iter__(self) -> Iterator[str]:
        """Yield each cell once."""
        return iter(dict.fromkeys(cell for _, each in self._runs for cell in each))

    def __len__(self) -> int:
        """Return how many cells there are."""
        return sum(1 for _ in self)


def _shown_point(point: _Point) -> tuple[Outcome, dict[str, float]]:
    outcome, values = point
    figures = zip(FIGURES, values, strict=True)
    return outcome, {figure.name: value for figure, value in figures if value is not None}


def _is_compared(metric: str) -> bool:
    """Whether runs are held against each other by a metric."""
    return metric in _NAMES or metric.startswith(PARITY)
