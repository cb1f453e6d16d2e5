"""How a run stands while it is under way, for the bottom of a terminal: the matrix fills in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rich.text import Text

from tunematrix.report.rows import SEVERITY, SYMBOLS, Place, in_order
from tunematrix.report.terminal import COLOURS, in_figures
from tunematrix.report.text import one_line
from tunematrix.results.record import Outcome

State: TypeAlias = Outcome | Literal["running", "waiting"]

RANKS: tuple[State, ...] = ("error", "failed", "running", "waiting", *SEVERITY)
"""A square shows the first of these that one of its cells is in."""
SIGNS: Mapping[State, tuple[str, str]] = {
    **{outcome: (SYMBOLS[outcome], COLOURS[outcome]) for outcome in SEVERITY},
    "running": ("▸", "cyan"),
    "waiting": ("○", "dim"),
}
"""The symbol of each state, and its colour."""
NAMED_AT_MOST = 4
"""How many of the cells under way are named."""
KEPT_FREE = 4
"""Lines of the screen that what has scrolled past keeps."""
HEADS = 2
"""Lines of the names of quantizers: `hqq-int4` takes two."""
GAP = "  "

Rows: TypeAlias = Mapping[str, Mapping[str, State]]
"""Name of a row to quantizer to the state of the square."""


@dataclass(frozen=True)
class Standing:
    """What is known of a run at one moment.

    Attributes:
        places: each cell's id to its place in the matrix.
        outcomes: id of what has ended, relations too, to its outcome.
        running: id of what is under way to the seconds since it began.
        total: how many cells and relations the run has.
        left: how much time is left, in words; empty where nobody knows.
    """

    places: Mapping[str, Place]
    outcomes: Mapping[str, Outcome]
    running: Mapping[str, float]
    total: int
    left: str = ""

    def state(self, cell_id: str) -> State:
        """Return what a cell has come to, or that it is under way, or waits."""
        waits: State = "running" if cell_id in self.running else "waiting"
        return self.outcomes.get(cell_id, waits)


def screen(standing: Standing, width: int, height: int) -> tuple[Text, ...]:
    """Return the lines that show how a run stands, each shorter than the terminal is wide.

    Where the terminal is too low, rows of the matrix that are done are left out; where it is too
    narrow, the matrix.

    Args:
        standing: of the run. width: columns of the terminal. height: its lines.
    """
    last = [*_under_way(standing.running, min(NAMED_AT_MOST, height // 6)), _summary(standing)]
    rows = _rows(standing)
    lines = [*_matrix(rows, width, height - KEPT_FREE - len(last)), *last]
    for line in lines:
        line.truncate(max(1, width - 1), overflow="ellipsis")
    return tuple(lines)


def _rows(standing: Standing) -> Rows:
    """Fold the states of cells into a row for each method of each recipe."""
    states: dict[Place, list[State]] = {}
    for cell_id, place in standing.places.items():
        states.setdefault(place, []).append(standing.state(cell_id))
    places = in_order(states)
    several = len({place.backend for place in places}) > 1
    names = [
        [one_line(word) for word in (place[:3] if several else place[1:3])] for place in places
    ]
    widths = [max(map(len, column)) for column in zip(*names, strict=True)]
    rows: dict[str, dict[str, State]] = {}
    for place, words in zip(places, names, strict=True):
        name = GAP.join(word.ljust(width) for word, width in zip(words, widths, strict=True))
        rows.setdefault(name, {})[place.quantizer] = min(states[place], key=RANKS.index)
    return rows


def _matrix(rows: Rows, width: int, room: int) -> list[Text]:
    """Return the lines of the matrix; none where it doesn't fit into the terminal's width."""
    columns = {column: _head(column) for row in rows.values() for column in row}
    widths = {column: max(map(len, head)) for column, head in columns.items()}
    margin = max(map(len, rows), default=0)
    across = margin + sum(len(GAP) + one for one in widths.values())
    if not rows or room <= HEADS + 1 or across >= width:
        return []
    lines = [
        Text(GAP.join([" " * margin, *(head[n].ljust(widths[c]) for c, head in columns.items())]))
        for n in range(HEADS)
        if any(head[n] for head in columns.values())
    ]
    kept = _kept(rows, room - HEADS)
    for name in kept:
        line = Text(name.ljust(margin))
        for column in columns:
            sign, colour = SIGNS[rows[name][column]] if column in rows[name] else (" ", "")
            line.append(GAP).append(sign, colour).append(" " * (widths[column] - 1))
        lines.append(line)
    left = len(rows) - len(kept)
    return [*lines, Text(f"and {left} rows more", "dim")] if left else lines


def _kept(rows: Rows, room: int) -> Sequence[str]:
    """Return the names of the rows to show: all, or those in which most is still to happen."""
    if len(rows) <= room:
        return tuple(rows)
    rank = {name: min(map(RANKS.index, row.values())) for name, row in rows.items()}
    chosen = sorted(rows, key=rank.__getitem__)[: room - 1]
    return tuple(name for name in rows if name in chosen)


def _head(quantizer: str) -> tuple[str, ...]:
    """Return the name of a column in two short lines."""
    first, _, second = one_line(quantizer).partition("-")
    return first, second


def _under_way(running: Mapping[str, float], most: int) -> list[Text]:
    """Return a line for each cell under way, the longest first, and how many more there are."""
    longest = sorted(running, key=running.__getitem__, reverse=True)
    sign, colour = SIGNS["running"]
    lines = [
        Text.assemble((f"{sign} ", colour), f"{one_line(name)}  {running[name]:.0f} s")
        for name in longest[: max(1, most)]
    ]
    left = len(longest) - len(lines)
    if left > 0:
        lines[-1].append(f", and {left} more", "dim")
    return lines


def _summary(standing: Standing) -> Text:
    """Return one line: how many have ended, the time left, and the outcomes so far."""
    ended = [outcome for outcome in standing.outcomes.values() if outcome != "unsupported"]
    left = f", {standing.left} left" if standing.left else ""
    counts = {outcome: ended.count(outcome) for outcome in SEVERITY if outcome in ended}
    text = Text(f"{len(ended)} of {standing.total} done{left}")
    return text.append("   " if counts else "").append_text(in_figures(counts))
