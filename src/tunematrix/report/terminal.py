"""Runs and failures, for a terminal of 80 columns and more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from tunematrix.checks.bound import Bound
from tunematrix.checks.verdict import Verdict
from tunematrix.report.again import run_again
from tunematrix.report.rows import (
    BAD,
    SYMBOLS,
    Agreement,
    Place,
    Run,
    Square,
    agreements,
    claimed_gap,
    counts,
    in_words,
    matrix,
    reasons,
    runs,
)
from tunematrix.report.text import LONGEST_NAME, indented, one_line, printable
from tunematrix.report.warned import how_many, warnings_in
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
INTERRUPTED = "bold yellow"
"""The colour of what is said of a run that didn't come to its end."""
ON_REQUEST: tuple[Outcome, ...] = ("known_failure", "unsupported")
"""Outcomes that are as they should be: why is a long list, and is shown when asked for."""
DIGITS = 3
"""Significant digits of a figure that people read; records keep all of them."""
EXACT_DIGITS = 8
STDERR_LINES = 6
"""Lines of what a cell printed as errors, shown with its failure; its record keeps more."""
LEGEND = (
    "cells by outcome, worst first; gap: smallest share of the entropy gap closed; longest: the "
    "longest cell; memory: largest growth of a process"
)


def report(records: Sequence[Record], *, whole: bool) -> Group:
    """Return a section for each run: its matrix, what is wrong, and counts.

    With `whole`, each relation, each warning and the reasons of all known failures and exclusions.
    """
    sections = [part for run in runs(records) for part in _section(run, whole=whole)]
    return Group(*sections, Text(LEGEND, "dim"))


def figures(record: Record) -> str:
    """Return a cell's main figures in a few words, or a relation's."""
    if (row := next(iter(agreements([record])), None)) and row.check:
        return f"{row.check.name} {_figure(row.check)}, {_bound(row.check)}"
    metrics, gap = record.metrics, claimed_gap(record)
    parts = [
        f"{metrics['seconds']:.1f} s" if "seconds" in metrics else "",
        f"{metrics['process_peak_mb']:.0f} MB" if "process_peak_mb" in metrics else "",
        f"gap {gap:.0%}" if gap is not None else "",
    ]
    return ", ".join(part for part in parts if part)


def failure(record: Record, again: str) -> str:
    """Say what was measured, the bound, the likely cause and how to repeat it, in some lines.

    Between them stand the last lines that the cell printed as errors, and where all of them are.
    """
    failed = record.failed_checks
    is_said_below = failed and record.reason == reason(failed)
    lines = [] if is_said_below else [printable(record.reason)]
    for check in failed:
        lines.append(check_line(check))
        lines.append(f"  because  {indented(check.message, '           ')}")
    if record.stderr:
        last = "\n".join(record.stderr.splitlines()[-STDERR_LINES:])
        lines.append(f"stderr:\n  {indented(last, '  ')}")
    if record.arms:
        lines.append(f"arms:      {one_line(', '.join(dict.fromkeys(record.arms)))}")
    if record.run_dir:
        lines.append(f"evidence:  {one_line(record.run_dir)}")
    lines.append(f"run again: {one_line(again)}")
    return "\n".join(lines)


def when(run: Run) -> str:
    """Return the name of a run, and when it began."""
    return ", ".join(filter(None, (f"run {one_line(run.id)}", f"{run.date} {run.time}".strip())))


def in_figures(outcomes: Mapping[Outcome, int]) -> Text:
    """Return outcomes as `✓ 3 passed   ✗ 1 failed`."""
    text = Text()
    for outcome, count in outcomes.items():
        words = f"{SYMBOLS[outcome]} {count} {in_words(outcome, count)}"
        text.append("   " if text else "")
        text.append(words, COLOURS[outcome])
    return text


def tally(what: str, records: Sequence[Record]) -> Text:
    """Return how many ended how, and how many warnings there are: `cells: ✓ 3 passed`."""
    text = Text.assemble(f"{what}: ", in_figures(counts(records)))
    told = how_many(records)
    return text.append(f"   {told}", "yellow") if told else text


def render(shown: RenderableType, width: int, *, colour: bool) -> str:
    """Return it as text for a terminal of `width` columns."""
    console = Console(width=width, force_terminal=colour, no_color=not colour, highlight=False)
    with console.capture() as capture:
        console.print(shown, crop=False)
    # Padding fills lines up with spaces, which a terminal doesn't need.
    return "".join(f"{line.rstrip(' ')}\n" for line in capture.get().split("\n")[:-1])


def _section(run: Run, *, whole: bool) -> Iterator[RenderableType]:
    yield _head(run)
    squares = matrix(run.records)
    if squares:
        yield _matrix(squares)
        yield Text()
    if run.relations and whole:
        yield from _relations(agreements(run.records))
    elif run.relations:
        yield _relations_in_short(run)
    for outcome in BAD:
        for record in run.records:
            if record.outcome == outcome:
                yield _failed(record)
    yield from _reasons(run, ("unavailable", *ON_REQUEST) if whole else ("unavailable",))
    if whole:
        yield from _warnings(run)
    if run.relations and whole:
        yield tally("relations", run.relations)
    if run.interrupted:
        yield Text(run.interrupted, INTERRUPTED)
    yield tally("cells", run.cells)
    yield from () if whole else _left_out(run.records)
    yield Text()


def _left_out(records: Sequence[Record]) -> Iterator[Text]:
    if hidden := _hidden(records):
        yield Text(f"{hidden}; --all shows why", "dim")
    if how_many(records):
        yield Text("--all shows what is warned of", "dim")


def _hidden(records: Sequence[Record]) -> str:
    """Say how many records aren't explained unless that is asked for; empty if all are."""
    found = counts(records)
    parts = []
    if unsupported := found.get("unsupported", 0):
        cells = "cell is" if unsupported == 1 else "cells are"
        parts.append(f"{unsupported} {cells} declared unsupported")
    if known := found.get("known_failure", 0):
        parts.append(f"{known} {'is' if known == 1 else 'are'} known to fail")
    return " and ".join(parts)


def _head(run: Run) -> Text:
    text = Text(one_line(run.environment), "bold")
    text.append(f"   {when(run)}\n", "not bold")
    host = f"{run.hardware}, {run.system}" if run.system else run.hardware
    text.append(f"{one_line(host)}\n", "not bold")
    versions = ", ".join(f"{name} {version}" for name, version in run.named_versions.items())
    text.append(one_line(versions) or "no versions were recorded", "not bold")
    return text


def _matrix(squares: Mapping[Place, Square]) -> Text:
    """Return a line for each square. A narrow terminal folds lines, and so loses no letter."""
    several = len({place.backend for place in squares}) > 1
    names = [*(["backend"] if several else []), "recipe", "method", "quantizer"]
    head = [Text(name, "dim") for name in ("", *names, "cells", "gap", "longest", "memory")]
    rows = [head]
    for place, square in squares.items():
        symbol = Text(SYMBOLS[square.outcome], COLOURS[square.outcome])
        options = [Text(one_line(getattr(place, name))) for name in names]
        rows.append([symbol, *options, _cells(square), *map(Text, _in_units(square))])
    # A name that is longer than any should be pushes its own line, and no other.
    widths = [
        max(cell.cell_len for cell in column if cell.cell_len <= LONGEST_NAME)
        for column in zip(*rows, strict=True)
    ]
    figures_from = len(names) + 2
    for row in rows:
        for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
            if cell.cell_len < width:  # aligning would cut a longer one
                cell.align("right" if number >= figures_from else "left", width)
    lines = [Text("  ").join(row) for row in rows]
    for line in lines:
        line.rstrip()
    text = Text("\n").join(lines)
    text.no_wrap, text.overflow = True, "ignore"
    return text


def _cells(square: Square) -> Text:
    text = Text()
    for outcome, count in square.counts.items():
        text.append(" " if text else "")
        text.append(f"{SYMBOLS[outcome]}{count}", COLOURS[outcome])
    return text


def _in_units(square: Square) -> tuple[str, str, str]:
    return (
        "" if square.gap is None else f"{square.gap:.0%}",
        "" if square.seconds is None else f"{square.seconds:.1f} s",
        "" if square.peak_mb is None else f"{square.peak_mb:.0f} MB",
    )


def _relations_in_short(run: Run) -> Text:
    text = tally("relations", run.relations)
    # Those beyond their bounds are told one by one.
    rows = [row for row in agreements(run.records) if row.slack is not None and row.slack >= 0]
    if rows:
        nearest = min(rows, key=lambda row: row.slack or 0)
        what = f"{nearest.check.name if nearest.check else ''} of {nearest.id}"
        text.append(f"\n  nearest to its bound: {what}, {nearest.slack:.0%} left", "dim")
    return text


def _relations(rows: Sequence[Agreement]) -> Iterator[RenderableType]:
    """Yield two lines for each relation: ids are long, and a table would fold them."""
    yield Text("relations, each with the figure that is nearest to its bound", "dim")
    for row in rows:
        text = Text(SYMBOLS[row.outcome], COLOURS[row.outcome])
        text.append(f"  {one_line(row.id)}", "not bold default")
        if row.check is not None:
            within = row.slack is not None and row.slack >= 0
            left = f", {row.slack:.0%} left" if within else ""
            text.append(f"\n   {check_line(row.check)}{left}", "not bold dim")
        yield text
    yield Text()


def _failed(record: Record) -> RenderableType:
    text = Text(f"{SYMBOLS[record.outcome]} {one_line(record.cell_id)}\n", COLOURS[record.outcome])
    text.append(f"  {indented(record.reason, '  ')}", "not bold default")
    # Not folded, so that it can be copied.
    return Group(text, Text(f"  {run_again(record)}", no_wrap=True, overflow="ignore"))


def _reasons(run: Run, outcomes: Sequence[Outcome]) -> Iterator[RenderableType]:
    """Yield why cells came to some outcomes: each reason once, and the cells that it is about."""
    for (outcome, why, link), ids in reasons(run.records, outcomes).items():
        yield why_not(outcome, why, len(ids))
        if link:
            # Not folded, so that it can be opened.
            yield Text(f"    {one_line(link)}", "dim", no_wrap=True, overflow="ignore")
        yield _named(ids)


def _warnings(run: Run) -> Iterator[RenderableType]:
    """Yield each warning once, and the cells that it is about."""
    for warning, ids in warnings_in(run.records).items():
        yield Text(f"warning ×{len(ids)}: {one_line(warning)}", "yellow")
        yield _named(ids)


def _named(ids: Sequence[str]) -> Padding:
    return Padding(Text(one_line(", ".join(ids)), "dim"), (0, 0, 0, 4))


def why_not(outcome: Outcome, why: str, count: int) -> Text:
    """Return why some cells came to an outcome: `? unavailable ×2: there is no GPU`."""
    words = f"{SYMBOLS[outcome]} {in_words(outcome)} ×{count}: {one_line(why)}"
    return Text(words, COLOURS[outcome])


def check_line(check: Verdict) -> str:
    """Return what a check measured, and its bound, in a line."""
    digits = _digits(check)
    figure = f"{_figure(check, digits)} {check.unit}".rstrip()
    bound = f", bound {_bound(check, digits)}" if _bound(check) else ""
    return one_line(f"{check.name}: measured {figure}{bound}")


def _digits(check: Verdict) -> int:
    """Return with how many digits a figure is shown: more where it would seem to hold a bound."""
    bound, measured = check.bound, check.measured
    if bound is None or not isinstance(measured, float) or check.outcome != "failed":
        return DIGITS
    for digits in range(DIGITS, EXACT_DIGITS):
        if not rounded(bound, digits).holds(float(f"{measured:.{digits}g}")):
            return digits
    return DIGITS  # something else than the figure failed it


def rounded(bound: Bound, digits: int = DIGITS) -> Bound:
    """Return a bound with its figures as people read them; whole numbers keep their digits."""
    own = {one.name: getattr(bound, one.name) for one in fields(bound) if one.init}
    short: dict[str, Any] = {
        name: float(f"{value:.{digits}g}")
        for name, value in own.items()
        if isinstance(value, float)
    }
    return replace(bound, **short)


def _bound(check: Verdict, digits: int = DIGITS) -> str:
    """Return a bound as text; nothing where evidence or the spec's bound was missing."""
    return "" if check.bound is None else one_line(str(rounded(check.bound, digits)))


def _figure(check: Verdict, digits: int = DIGITS) -> str:
    if isinstance(check.measured, float):
        return f"{check.measured:.{digits}g}"
    return "nothing" if check.measured is None else one_line(str(check.measured))
