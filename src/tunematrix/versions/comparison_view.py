"""What a step from one set of releases to another changes, for a terminal of 80 columns."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from tunematrix.errors import counted
from tunematrix.report.past import ABSENT, Moved, Ratio
from tunematrix.report.rows import SYMBOLS, in_words
from tunematrix.report.terminal import check_line
from tunematrix.report.text import one_line
from tunematrix.results.record import Record
from tunematrix.versions.comparison import (
    FigureTurn,
    ItemTurn,
    Turn,
    UpgradeComparison,
    standing,
)
from tunematrix.versions.released_faults import FaultsMoved, ReleasedFault

LEADING = ("torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes", "torchao", "hqq",
           "optimum-quanto", "datasets", "mlx", "mlx-lm")  # fmt: skip
"""Distributions whose releases are told first."""
MOST = 8
"""Items, figures or distributions of a kind that are shown one by one."""
CHECKS = 3
"""Checks of an item that are shown."""
SIGNS: Mapping[Turn, tuple[str, str, str]] = {
    "broken": ("✗", "bold red", "broken"),
    "lost": ("?", "bold red", "lost"),
    "flaky": ("±", "bold red", "flaky"),
    "fixed": ("✓", "green", "fixed"),
    "gained": ("+", "green", "gained"),
    "other": ("~", "yellow", "other"),
    "same": ("=", "dim", "as before"),
}
"""What stands before each kind of item, its colour, and what it is called."""
ENTERED = "known fault entered"
LEFT = "known fault left"
DOUBTFUL = "known fault, perhaps of the old versions too"
MEASURES: Mapping[str, str] = {"seconds": "time", "process_peak_mb": "memory of the process"}
"""Figures that vary from run to run, in words."""


def comparison_text(comparison: UpgradeComparison, environment: str) -> Group:
    """Return all that changes: what breaks first, the verdict last."""
    head = Text(f"upgrade of {one_line(environment)}", "bold")
    head.append(f": {version_line(comparison.versions)}", "not bold")
    lines: list[RenderableType] = [head]
    for turn in SIGNS:
        lines += _items(turn, comparison.of(turn)) if turn != "same" else ()
    lines += [Text(one_line(note), "bold red") for note in comparison.notes]
    lines += [Text(line) for line in untested_lines(comparison)]
    lines += map(Text, figure_lines(comparison.figures))
    lines += [Text(line, "dim") for line in ratio_lines(comparison.ratios)]
    lines += _faults(comparison.faults)
    lines.append(Text(f"cells and relations: {count_line(comparison)}"))
    colour = "green" if comparison.is_safe else "bold red"
    lines.append(Text(verdict_line(comparison), colour))
    return Group(*lines)


def version_line(versions: Sequence[Moved]) -> str:
    """Return what differs between the sets, the weightiest first."""
    if not versions:
        return "nothing newer fits, so both sides are the same"
    ranks = {name: rank for rank, name in enumerate(LEADING)}
    ordered = sorted(versions, key=lambda one: ranks.get(one.name, len(ranks)))
    named = [f"{one.name} {one.before} → {one.after}" for one in ordered[:MOST]]
    more = len(ordered) - MOST
    return one_line(", ".join([*named, f"and {more} more"] if more > 0 else named))


def item_head(item: ItemTurn) -> str:
    """Return an item's id and its outcomes on both sides."""
    return one_line(f"{item.id}: {_outcome(item.before)} → {_outcome(item.after)}")


def item_lines(item: ItemTurn) -> Iterator[str]:
    """Yield what tells the two sides of an item apart: its checks, or the reason."""
    before, after = item.before, item.after
    if item.turn == "fixed" and before is not None:
        yield one_line(f"before: {before.reason}")
        return
    worse = [one for one in item.checks if one.after is None or one.after.outcome != "passed"]
    turns = worse if item.turn in ("broken", "flaky", "other") and worse else item.checks
    for turn in turns[:CHECKS]:
        if turn.after is None:
            yield one_line(f"{turn.name}: not judged any more")
            continue
        was = "" if turn.before is None else f", and before {_figure(turn.before.measured)}"
        yield one_line(f"{check_line(turn.after)}{was}")
        if turn.after.outcome != "passed":
            yield one_line(f"because {turn.after.message}")
    if len(turns) > CHECKS:
        yield f"and {len(turns) - CHECKS} more checks"
    if after is not None and after.reason and not turns:
        yield one_line(after.reason)


def untested_lines(comparison: UpgradeComparison) -> Iterator[str]:
    """Yield why items could be run on neither side, each reason once."""
    of_neither = [one for one in comparison.of("same") if standing(one.after, ()) == "untested"]
    reasons = Counter(one.after.reason for one in of_neither if one.after is not None)
    for reason, count in reasons.most_common(MOST):
        yield one_line(f"{counted(count, 'item')} couldn't be run: {reason}")


def figure_lines(figures: Sequence[FigureTurn]) -> Iterator[str]:
    """Yield a line for each of the first figures that moved."""
    if figures:
        yield "figures that moved further than under the same seed:"
    for one in figures[:MOST]:
        unit = f" {one.unit}" if one.unit else ""
        if one.after is None:
            yield one_line(f"  {one.metric} of {one.item}: {one.before:.4g}{unit} → not measured")
            continue
        share = f"{one.after / one.before - 1:+.1%}, " if one.before else ""
        text = f"{one.before:.4g} → {one.after:.4g}{unit} ({share}limit ±{one.reach:.2g})"
        yield "  " + one_line(f"{one.metric} of {one.item}: {text}")
    if len(figures) > MOST:
        yield f"  and {len(figures) - MOST} more figures"


def ratio_lines(ratios: Iterable[Ratio]) -> Iterator[str]:
    """Yield how time and memory moved; they vary, so that a little says nothing."""
    for one in ratios:
        text = f"{MEASURES.get(one.metric, one.metric)}: × {one.median:.2f} (median of {one.cells}"
        more = f"; × {one.extreme:.2f} in {one.cell_id}" if one.cells > 1 else ""
        yield one_line(f"{text}{more})")


def count_line(comparison: UpgradeComparison) -> str:
    """Return how many items became what."""
    counts = Counter(one.turn for one in comparison.turns)
    told = [f"{SIGNS[turn][0]} {counts[turn]} {SIGNS[turn][2]}" for turn in SIGNS if counts[turn]]
    # Or nobody would look for what fails under any versions.
    failing = sum(one.after is not None and one.after.is_bad for one in comparison.of("same"))
    told += [f"({failing} of them failing)"] if failing else []
    return "   ".join(told) or "none"


def verdict_line(comparison: UpgradeComparison) -> str:
    """Return whether the step is safe, and why not."""
    broken, entered = comparison.of("broken", "lost"), comparison.faults.entered
    reasons = [f"{len(broken)} broken or lost"] if broken else []
    plural = "s" if len(entered) > 1 else ""
    flaky = comparison.of("flaky")
    reasons += [f"{len(flaky)} flaky, failing in one run and not in the next"] if flaky else []
    reasons += [f"{len(entered)} known fault{plural} entered"] if entered else []
    if reasons:
        return f"not safe: {', '.join(reasons)}"
    if not comparison.tested:
        return "unknown: nothing was tested on both sides"
    return "safe: nothing that worked breaks, and no known fault is entered"


def bisect_command(comparison: UpgradeComparison, environment: str) -> str:
    """Return the command that finds which release broke the first item that is broken."""
    pins = [f"{one.name}=={one.after}" for one in comparison.versions if one.after != ABSENT]
    (first, *_) = comparison.of("broken")
    command = ["tunematrix", "bisect", first.id, "-e", environment, "--bad", ",".join(pins)]
    return one_line(shlex.join(command))


def fault_line(fault: ReleasedFault) -> str:
    """Return what a known fault does, and what notices it."""
    checks = f" (noticed by {', '.join(fault.checks)})" if fault.checks else ""
    return one_line(f"{fault.shows}{checks}")


def _items(turn: Turn, items: Sequence[ItemTurn]) -> Iterator[RenderableType]:
    sign, colour, _ = SIGNS[turn]
    for item in items[:MOST]:
        yield Text.assemble((f"{sign} ", colour), item_head(item))
        yield from (Padding(Text(line), (0, 0, 0, 4)) for line in item_lines(item))
        if item.after is not None and item.after.run_dir and turn in ("broken", "flaky"):
            # Not folded, so that it can be copied.
            place = f"    evidence: {one_line(item.after.run_dir)}"
            yield Text(place, no_wrap=True, overflow="ignore")
    if len(items) > MOST:
        yield Text(f"{sign} and {len(items) - MOST} more {SIGNS[turn][2]}", colour)


def _faults(faults: FaultsMoved) -> Iterator[Text]:
    sides = (
        (ENTERED, faults.entered, "bold red"),
        (DOUBTFUL, faults.doubtful, "yellow"),
        (LEFT, faults.left, "green"),
    )
    for what, these, colour in sides:
        for fault in these:
            yield Text.assemble((f"{what}: ", colour), fault_line(fault))
            # Not folded, so that it can be opened.
            yield Text(f"    {one_line(fault.link)}", no_wrap=True, overflow="ignore")


def _outcome(record: Record | None) -> str:
    if record is None:
        return "not run"
    return f"{SYMBOLS[record.outcome]} {in_words(record.outcome)}"


def _figure(measured: object) -> str:
    if isinstance(measured, float):
        return f"{measured:.3g}"
    return "nothing" if measured is None else str(measured)
