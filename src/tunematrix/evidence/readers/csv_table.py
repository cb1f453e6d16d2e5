"""Logs that are a table of comma-separated values, such as Lightning's and litgpt's metrics.csv."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from tunematrix.evidence.events import LoggedStep
from tunematrix.evidence.readers.content import LogContent, LogFile
from tunematrix.evidence.readers.steps import StepList
from tunematrix.evidence.readers.values import Names, first_number, number, recognise, step_number


def csv_table(log: LogFile) -> LogContent | None:
    """Read a table with a column for the step and one for the training loss.

    Rows may be sparse: those of one step are one step. A row without a line end, or with fewer
    cells than the header, was cut off and is left out.
    """
    rows = _rows(log)
    header = next(rows, None)
    if header is None:
        return None
    names = recognise(header)
    if not (names.steps and names.losses):
        return None
    records = list(rows)
    loss = next((n for n in names.losses if any(number(r.get(n)) is not None for r in records)), "")
    steps = StepList()
    for record in records:
        if step := _step(record, names, loss):
            steps.add(step)
    return LogContent(steps.steps, cut_off=log.ends_inside_a_line)


def _rows(log: LogFile) -> Iterator[dict[str, object]]:
    """Yield the header, each name by itself, then the complete rows."""
    lines = log.lines()
    first = next(lines, None)
    if first is None or not first.ended:
        return
    delimiter = next((mark for mark in ",\t;" if mark in first.text), None)
    if delimiter is None:
        return
    header = next(csv.reader([first.text], delimiter=delimiter))
    yield dict.fromkeys(header)
    for text, ended in lines:
        cells = next(csv.reader([text], delimiter=delimiter))
        if ended and len(cells) == len(header):
            yield dict(zip(header, cells, strict=True))


def _step(record: dict[str, object], names: Names, loss: str) -> LoggedStep | None:
    step = step_number(record.get(names.steps[0]))
    values = (
        number(record.get(loss)),
        first_number(record, names.norms),
        first_number(record, names.rates),
    )
    if step is None or values == (None, None, None):
        return None
    return LoggedStep(step, *values)
