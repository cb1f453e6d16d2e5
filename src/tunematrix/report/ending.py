"""How a run ends: one screen of a terminal, whatever has failed and however much of it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group
from rich.text import Text

from tunematrix.environments.table import JOINT
from tunematrix.report.rows import SYMBOLS, Run, reasons, runs
from tunematrix.report.terminal import COLOURS, INTERRUPTED, ON_REQUEST, tally, when, why_not
from tunematrix.report.text import one_line
from tunematrix.report.warned import how_many
from tunematrix.results.record import Record

HEIGHT = 24
"""Lines of the smallest terminal."""
AROUND = 4
"""Lines that pytest writes around the ending, and the prompt below it."""
REASON_LINES = 2
LINES_OF_LACKS = 1
"""Kept for why cells couldn't run, or where to read it."""


def ending(
    records: Sequence[Record],
    failed: Sequence[Record],
    again: Mapping[str, str],
    width: int,
    left_out: int = 0,
    page: str = "",
) -> Group:
    """Return what failed first, counts by outcome, and where the rest is.

    Args:
        records: all of one run, at least one.
        failed: those of them that fail the run, in the order in which they ended.
        again: id to the command that repeats it.
        width: columns of the terminal.
        left_out: how many nightly cells and relations didn't run, since nobody asked for them.
        page: where the same is as HTML; empty where there is no such file.
    """
    every = runs(records)
    names = dict.fromkeys(one_line(run.environment) for run in every)
    # A relation between environments is of both.
    command = f"tunematrix report -e {','.join(one for one in names if JOINT not in one)}"
    last = [line for name in names for line in _counted(name, every, alone=len(names) == 1)]
    if left_out:
        last.append(Text(nightly(left_out), "dim"))
    last.append(Text(when(every[0]), "dim"))
    if page:
        last.append(Text(f"page: {one_line(page)}", "dim"))
    last.append(Text(f"more: {command}{_with_all(records)}", "dim"))
    room = HEIGHT - AROUND - sum(_height(text, width) for text in last)
    shown = {record.cell_id for record in failed}
    unavailable = [record for record in records if record.cell_id not in shown]
    # What couldn't run is never crowded out by what failed: a line says where to read why.
    lacking = _unavailable(unavailable, width, min(room, LINES_OF_LACKS), command)
    room -= sum(_height(text, width) for text in lacking)
    first = _failures(failed, again, width, room, command)
    return Group(*first, *lacking, *last)


def _with_all(records: Sequence[Record]) -> str:
    """Say what `--all` would add; empty where that is nothing."""
    more = ["what is warned of"] if how_many(records) else []
    if any(record.outcome in ON_REQUEST for record in records):
        more.append("why cells are unsupported or known to fail")
    if more:
        return f"; with --all, {' and '.join(more)}"
    return "; with --all, each relation" if any(record.arms for record in records) else ""


def _counted(name: str, every: Sequence[Run], *, alone: bool) -> Iterator[Text]:
    """Yield how many cells and relations of an environment ended how."""
    mine = [run for run in every if run.environment == name]
    of = "" if alone else f" of {name}"
    if interrupted := next((run.interrupted for run in mine if run.interrupted), ""):
        yield Text(f"{interrupted}{of}", INTERRUPTED)
    if cells := [record for run in mine for record in run.cells]:
        yield tally(f"cells{of}", cells)
    if relations := [record for run in mine for record in run.relations]:
        yield tally(f"relations{of}", relations)


def nightly(left_out: int) -> str:
    """Say in one line how many nightly cells were left out, and how to run them."""
    what = "cell was" if left_out == 1 else "cells were"
    return (
        f"{left_out} nightly {what} left out; -m nightly runs {'it' if left_out == 1 else 'them'}"
    )


def _failures(
    failed: Sequence[Record], again: Mapping[str, str], width: int, room: int, command: str
) -> list[Text]:
    """Return the first failures that there is room for, and how many more there are."""
    texts: list[Text] = []
    for number, record in enumerate(failed):
        text = _failure(record, again.get(record.cell_id, ""), width)
        rest = len(failed) - number
        # One line is kept for how many more there are, unless this is the last.
        needed = _height(text, width) + (rest > 1)
        if texts and needed > room:
            return [*texts, Text(f"and {rest} more failed: {command}", "bold red")]
        texts.append(text)
        room -= _height(text, width)
    return texts


def _failure(record: Record, again: str, width: int) -> Text:
    text = Text(no_wrap=True, overflow="ignore")
    text.append(f"{SYMBOLS[record.outcome]} {one_line(record.cell_id)}", COLOURS[record.outcome])
    # What stands below its first line, frames of a stack perhaps, the report shows.
    reason = one_line(record.reason.partition("\n")[0])
    lines = textwrap.wrap(
        reason, width - 2, max_lines=REASON_LINES, placeholder=" …", break_on_hyphens=False
    )
    text.append("".join(f"\n  {line}" for line in lines))
    # Not folded, so that it can be copied.
    text.append(f"\n  {one_line(again)}" if again else "")
    return text


def _unavailable(records: Sequence[Record], width: int, room: int, command: str) -> list[Text]:
    """Return why cells couldn't run, as far as there is room for it."""
    texts: list[Text] = []
    groups = reasons(records, ["unavailable"])
    for number, ((outcome, why, _), ids) in enumerate(groups.items()):
        text = why_not(outcome, textwrap.shorten(why, 2 * width), len(ids))
        rest = len(groups) - number
        if _height(text, width) + (rest > 1) > room:
            which = "others" if texts else "cells"
            return [*texts, Text(f"why {which} are unavailable: {command}", "magenta")]
        texts.append(text)
        room -= _height(text, width)
    return texts


def _height(text: Text, width: int) -> int:
    """Return how many lines of a terminal a text takes."""
    return sum(max(1, -(-len(line) // width)) for line in text.plain.split("\n"))
