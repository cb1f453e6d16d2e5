"""The matrix and the failures, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from tunematrix.checks.verdict import Verdict
from tunematrix.report.rows import (
    SYMBOLS,
    Agreement,
    Matrix,
    Square,
    agreements,
    claimed_gap,
    counts,
    matrix,
    reasons,
)
from tunematrix.results.outcome import reason
from tunematrix.results.record import Outcome, Record

COLOURS: dict[Outcome, str] = {
    "passed": "green",
    "failed": "bold red",
    "known_failure": "yellow",
    "unsupported": "dim",
    "unavailable": "magenta",
    "error": "bold red",
}


def summary(records: Sequence[Record]) -> Group:
    """Return the matrix, its legend, and why cells were excluded, or fail as is known."""
    found, related = matrix(records), agreements(records)
    parts: list[Table | Text] = [_table(found)] if found.squares else []
    parts += [_relations(related)] if related else []
    parts.append(_legend(records))
    for (outcome, why, link), ids in reasons(records):
        what = f"{SYMBOLS[outcome]} {outcome.replace('_', ' ')} ×{len(ids)}"
        where = f" <{link}>" if link else ""
        parts.append(Text(f"{what}: {why}{where}: {', '.join(ids)}", COLOURS[outcome]))
    return Group(*parts)


def figures(record: Record) -> str:
    """Return a cell's main figures in a few words, or a relation's."""
    if (row := next(iter(agreements([record])), None)) and row.check:
        return f"{row.check.name} {_figure(row.check)}, {row.check.bound}"
    metrics, gap = record.metrics, claimed_gap(record)
    parts = [
        f"{metrics['seconds']:.1f} s" if "seconds" in metrics else "",
        f"{metrics['process_peak_mb']:.0f} MB" if "process_peak_mb" in metrics else "",
        f"gap {gap:.0%}" if gap is not None else "",
    ]
    return ", ".join(part for part in parts if part)


def failure(record: Record, again: str) -> str:
    """Say what was measured, the bound, the likely cause, where it lies and how to repeat it."""
    failed = record.failed_checks
    told = failed and record.reason == reason(failed)
    lines = [] if told else [record.reason]
    for check in failed:
        lines.append(_held_against_bound(check))
        lines.append(f"  because  {check.message}")
    if record.arms:
        lines.append(f"arms:      {', '.join(dict.fromkeys(record.arms))}")
    if record.run_dir:
        lines.append(f"evidence:  {record.run_dir}")
    lines.append(f"run again: {again}")
    return "\n".join(lines)


def render(summary: Group, width: int, *, colour: bool) -> str:
    """Return `summary` as text for a terminal of `width` columns."""
    console = Console(width=width, force_terminal=colour, no_color=not colour)
    with console.capture() as capture:
        console.print(summary)
    return capture.get()


def _held_against_bound(check: Verdict) -> str:
    figure = _figure(check, digits=6)
    return f"{check.name}: measured {f'{figure} {check.unit}'.rstrip()}, bound {check.bound}"


def _figure(check: Verdict, digits: int = 2) -> str:
    if isinstance(check.measured, float):
        return f"{check.measured:.{digits}g}"
    return "nothing" if check.measured is None else check.measured


def _relations(rows: Sequence[Agreement]) -> Table:
    table = Table(box=SIMPLE, title="relations", title_justify="left")
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")
    for name in ("measured", "tolerance", "margin"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        # Ids are long, and a terminal has more rows than columns.
        what, found = Text(row.id), ["", "", ""]
        if row.check is not None:
            what.append(f"\n{row.check.name}", "dim")
            missed = row.check.measured is None  # its bound is a sentence, and stands below
            bound = "" if missed else row.check.bound.removeprefix("<= ")
            margin = "" if row.margin is None else f"{row.margin:.3g}×"
            found = [_figure(row.check), bound, margin.replace("inf×", "exact")]
        table.add_row(Text(SYMBOLS[row.outcome], COLOURS[row.outcome]), what, *found)
    return table


def _table(found: Matrix) -> Table:
    # There are more quantizers than methods, and a terminal has more rows than columns.
    table = Table(box=SIMPLE, title="quantizer × method", title_justify="left")
    table.add_column("", no_wrap=True)
    for method in found.methods:
        table.add_column(method, justify="right")
    for quantizer in found.quantizers:
        squares = [found.squares.get((method, quantizer)) for method in found.methods]
        table.add_row(quantizer, *(_show(square) for square in squares))
    return table


def _show(square: Square | None) -> Text:
    if square is None:
        return Text("")
    text = Text(SYMBOLS[square.outcome], COLOURS[square.outcome])
    if square.counts.get("passed", 0) > 1:
        text.append(f" {square.counts['passed']}")
    if square.gap is not None:
        text.append(f" {square.gap:.0%}", "cyan")
    # Without a space inside, or a narrow terminal parts a figure from its unit.
    figures = [
        f"{square.seconds:.1f}s" if square.seconds is not None else "",
        f"{square.peak_mb:.0f}MB" if square.peak_mb is not None else "",
    ]
    if any(figures):
        text.append("\n" + " ".join(filter(None, figures)), "dim")
    return text


def _legend(records: Sequence[Record]) -> Text:
    text = Text()
    for outcome, count in counts(records).items():
        text.append(f"{SYMBOLS[outcome]} {count} {outcome.replace('_', ' ')}   ", COLOURS[outcome])
    text.append("\nin a square: cells passed, where several did, ", "dim")
    text.append("smallest share of the entropy gap closed", "cyan")
    text.append(", longest cell, largest growth in memory", "dim")
    return text
