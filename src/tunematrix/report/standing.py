"""How a run stands while it is under way, for the bottom of a terminal: the matrix fills in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from rich.text import Text

from tunematrix.report.rows import SEVERITY, SYMBOLS, Place, in_order, plain_first
from tunematrix.report.terminal import COLOURS, in_figures
from tunematrix.report.text import brief, one_line
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
"""Lines of the names of quantizers: `hqq` stands above `int4`."""
GAP = 2
"""Columns of the terminal between two of the matrix."""

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
        is_importing: whether what all cells wait for is the import of the libraries.
    """

    places: Mapping[str, Place]
    outcomes: Mapping[str, Outcome]
    running: Mapping[str, float]
    total: int
    left: str = ""
    is_importing: bool = False

    def state(self, cell_id: str) -> State:
        """Return what a cell has come to, or that it is under way, or waits."""
        waits: State = "running" if cell_id in self.running else "waiting"
        return self.outcomes.get(cell_id, waits)


class Column(NamedTuple):
    """A column of the matrix.

    Attributes:
        quantizer: whose it is.
        family: its library, unless a column of the same stands before it.
        option: the rest of its name.
        width: in columns of the terminal.
    """

    quantizer: str
    family: str
    option: str
    width: int


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
    names = [[brief(word) for word in (place[:3] if several else place[1:3])] for place in places]
    widths = [max(map(len, column)) for column in zip(*names, strict=True)]
    rows: dict[str, dict[str, State]] = {}
    for place, words in zip(places, names, strict=True):
        padded = [word.ljust(width) for word, width in zip(words, widths, strict=True)]
        name = (" " * GAP).join(padded)
        row = rows.setdefault(name, {})  # which may be another's too, if long names were cut
        both = [*states[place], *([row[place.quantizer]] if place.quantizer in row else [])]
        row[place.quantizer] = min(both, key=RANKS.index)
    return rows


def _matrix(rows: Rows, width: int, room: int) -> list[Text]:
    """Return the lines of the matrix; none where it doesn't fit into the terminal's width."""
    columns = _columns(sorted({column for row in rows.values() for column in row}, key=plain_first))
    margin = max(map(len, rows), default=0)
    if not rows or room <= HEADS + 1 or margin + sum(GAP + one.width for one in columns) >= width:
        return []
    kept = _kept(rows, room - HEADS)
    heads = [
        _line("", margin, [(one.family, one.width) for one in columns]),
        _line("", margin, [(one.option, one.width) for one in columns]),
    ]
    lines = [Text(head.plain, "dim") for head in heads if head.plain.strip()]
    for name in kept:
        squares = [(rows[name].get(one.quantizer), one.width) for one in columns]
        lines.append(_line(name, margin, [(_sign(state), space) for state, space in squares]))
    left = len(rows) - len(kept)
    return [*lines, Text(f"and {left} rows more", "dim")] if left else lines


def _line(name: str, margin: int, parts: Sequence[tuple[str | Text, int]]) -> Text:
    """Return a line of the matrix: its name, then each part in its column."""
    line, place = Text(name), margin
    for part, width in parts:
        place += GAP
        line.append(" " * (place - line.cell_len if part else 0)).append(part)
        place += width
    return line


def _columns(quantizers: Iterable[str]) -> list[Column]:
    """Return the columns; those of one library side by side, with its name above the first."""
    families: dict[str, list[tuple[str, str]]] = {}
    for quantizer in quantizers:
        family, _, option = brief(quantizer).partition("-")
        families.setdefault(family, []).append((quantizer, option))
    columns = []
    for family, members in families.items():
        widths = [max(1, len(option)) for _, option in members]
        across = sum(widths) + GAP * (len(members) - 1)
        widths[-1] += max(0, len(family) - across)
        heads = [family, *[""] * (len(members) - 1)]
        for (quantizer, option), head, width in zip(members, heads, widths, strict=True):
            columns.append(Column(quantizer, head, option, width))
    return columns


def _sign(state: State | None) -> Text:
    return Text() if state is None else Text(*SIGNS[state])


def _kept(rows: Rows, room: int) -> Sequence[str]:
    """Return the names of the rows to show: all, or those in which most is still to happen."""
    if len(rows) <= room:
        return tuple(rows)
    rank = {name: min(map(RANKS.index, row.values())) for name, row in rows.items()}
    chosen = sorted(rows, key=rank.__getitem__)[: room - 1]
    return tuple(name for name in rows if name in chosen)


def _under_way(running: Mapping[str, float], most: int) -> list[Text]:
    """Return a line for each cell under way, the longest first, and how many more there are."""
    longest = sorted(running, key=running.__getitem__, reverse=True)
    sign, colour = SIGNS["running"]
    lines = [
        Text.assemble((f"{sign} ", colour), f"{one_line(name)}  {int(running[name])} s")
        for name in longest[: max(1, most)]
    ]
    left = len(longest) - len(lines)
    if left > 0:
        lines[-1].append(f", and {left} more", "dim")
    return lines


def _summary(standing: Standing) -> Text:
    """Return one line: how many have ended, the time left, and the outcomes so far."""
    each = list(standing.outcomes.values())
    counts: dict[Outcome, int] = {one: each.count(one) for one in SEVERITY if one in each}
    counts.pop("unsupported", None)
    left = f", {standing.left} left" if standing.left else ""
    if not (counts or standing.running):
        what = "importing the libraries" if standing.is_importing else "getting ready"
        return Text(f"{what}; {standing.total} to run{left}")
    text = Text(f"{sum(counts.values())} of {standing.total} done{left}")
    return text.append("   " if counts else "").append_text(in_figures(counts))
