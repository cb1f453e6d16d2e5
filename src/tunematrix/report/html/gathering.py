"""Lines of records → the newest runs in full, and what earlier runs tell of the same cells.

A first pass reads the head of each line, which is cheap; a second one reads whole records, of the
few runs that are shown. So a hundred thousand records need little time and memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from tunematrix.evidence.figures import LONGEST_TAIL
from tunematrix.report.html.payload import FIGURES, PastPoint
from tunematrix.report.rows import Run, moment_of, runs
from tunematrix.results.head import RecordHead, head_of
from tunematrix.results.record import Outcome, Record, hardware_of
from tunematrix.results.run_line import host_of
from tunematrix.results.store import parsed

Lines: TypeAlias = Callable[[], Iterable[tuple[bytes, str]]]
"""A source of lines, each with the place where it stands; it is read twice."""
Name: TypeAlias = tuple[str, str, str]
"""A run: its environment, its id and its machine, which is empty where nothing ran."""

LARGEST = sys.float_info.max
MOST_PAST = 30
"""Earlier runs that a cell shows."""
MOST_CELLS = 5_000
"""Cells that are shown in full; older runs beyond these are named, and left out."""


@dataclass(frozen=True)
class ShownThread:
    """All that is known of one environment on one hardware.

    Attributes:
        newest: its newest run; before: the one before that, None where there is none.
        past: cell to what earlier runs came to, oldest first; earlier: how many of them.
    """

    newest: Run
    before: Run | None
    past: dict[str, tuple[PastPoint, ...]]
    earlier: int


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


@dataclass
class _Heads:
    """A run as far as the heads of its records tell: cell to where it stands, and to its point."""

    hardware: str = ""
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
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
    records = _records(sources, found, newest, before)
    whole = {
        (run.environment, run.id, host_of(run.machine) if run.versions else ""): run
        for run in runs(records)
    }
    shown = (_thread(names, found, whole) for names in kept)
    return Gathered(tuple(shown), tuple(names[-1] for names in left_out))


def _heads(sources: Sequence[Lines]) -> dict[Name, _Heads]:
    found: dict[Name, _Heads] = {}
    for number, source in enumerate(sources):
        for position, (line, place) in enumerate(source()):
            head = head_of(line, place)
            host = host_of(head.machine) if head.versions else ""
            run = found.setdefault((head.environment, head.run_id, host), _Heads())
            cell = sys.intern(head.cell_id)
            run.places[cell] = (number, position)
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
        whole = kept.setdefault(into, _Heads(found[into].hardware))
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
    sources: Sequence[Lines], found: dict[Name, _Heads], newest: set[Name], before: set[Name]
) -> Iterator[Record]:
    """Yield whole records of some runs, in the order of recording.

    Of the runs before the newest ones, without what no comparison looks at.
    """
    shown = {place for name in newest for place in found[name].places.values()}
    places = shown.union(place for name in before for place in found[name].places.values())
    for number, source in enumerate(sources):
        for position, (line, place) in enumerate(source()):
            if (number, position) in shown:
                record = parsed(line, place)
                # What somebody else has written may be of any length.
                yield replace(record, stderr=record.stderr[-LONGEST_TAIL:])
            elif (number, position) in places:
                yield replace(parsed(line, place), checks=(), losses=(), stderr="")


def _thread(
    names: Sequence[Name], found: dict[Name, _Heads], whole: dict[Name, Run]
) -> ShownThread:
    past: dict[str, list[PastPoint]] = {}
    earlier = names[:-1][-MOST_PAST:]
    for name in earlier:
        moment = moment_of(name[1])
        for cell, (outcome, values) in found[name].points.items():
            known = {
                figure.name: value
                for figure, value in zip(FIGURES, values, strict=True)
                if value is not None
            }
            past.setdefault(cell, []).append(PastPoint(name[1], moment, outcome, known))
    before = whole[names[-2]] if len(names) > 1 else None
    each = {cell: tuple(points) for cell, points in past.items()}
    return ShownThread(whole[names[-1]], before, each, len(names) - 1)
