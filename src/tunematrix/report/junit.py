"""Records → what JUnit XML has beside outcomes: properties of a test case, and of its suite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from tunematrix.report.rows import runs
from tunematrix.report.text import one_line
from tunematrix.results.record import Record, shown_option

Property: TypeAlias = tuple[str, str]
"""Name and value."""


def of_cell(record: Record) -> tuple[Property, ...]:
    """Return what a cell came to, what it was, and its figures with all their digits."""
    pairs = [("outcome", record.outcome), ("link", record.link)]
    pairs += [(f"axis.{axis}", shown_option(option)) for axis, option in record.axes.items()]
    pairs += [(f"metric.{name}", repr(figure)) for name, figure in record.metrics.items()]
    pairs += [(f"seconds.{phase}", repr(time)) for phase, time in record.durations.items()]
    return tuple(_printable(pairs))


def of_suite(records: Sequence[Record]) -> tuple[Property, ...]:
    """Return what all cells of a run have in common: where they ran, and with which versions."""
    (run, *_) = runs(records)
    pairs = [("environment", run.environment), ("run", run.id), ("hardware", run.hardware)]
    pairs += [("system", run.system)]
    pairs += [(f"version.{name}", version) for name, version in run.versions.items()]
    return tuple(_printable(pairs))


def _printable(pairs: Sequence[Property]) -> Iterator[Property]:
    return ((one_line(name), one_line(value)) for name, value in pairs if value)
