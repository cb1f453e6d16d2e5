"""Findings over regressions, for a terminal: one table, and below it why a row isn't detected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tunematrix.regressions.overlays import LEADING
from tunematrix.regressions.run import Finding
from tunematrix.regressions.verdicts import Observed

SYMBOLS: Mapping[Observed, str] = {
    "detected": "✓",
    "missed": "✗",
    "false alarm": "✗",
    "broken": "!",
    "unavailable": "?",
}
COLOURS: Mapping[Observed, str] = {
    "detected": "green",
    "missed": "bold red",
    "false alarm": "bold red",
    "broken": "bold yellow",
    "unavailable": "magenta",
}


MOST = 2
"""Distributions that a row names; the others follow from those."""


def differing(finding: Finding) -> str:
    """Return what changed from the faulty side to the fixed one: `trl 0.13.0 → 0.14.0`."""
    faulty, fixed = finding.packages["faulty"] or {}, finding.packages["fixed"]
    if fixed is None:
        return "today's releases, none is fixed"
    other = [n for n in dict.fromkeys((*faulty, *fixed)) if faulty.get(n) != fixed.get(n)]
    names = [name for name in LEADING if name in other][:MOST] or other
    lines = [f"{n} {faulty.get(n, 'as it is')} → {fixed.get(n, 'as it is')}" for n in names]
    return "\n".join(lines)


def expected(finding: Finding) -> str:
    """Return what had to fail, in words."""
    told = finding.expected
    return told.get("check") or f"{told['raises']} in {told['phase']}"


def tables(findings: Sequence[Finding]) -> Group:
    """Return all findings, the reasons of those that weren't detected, and the score."""
    table = Table(box=SIMPLE, title="regressions", title_justify="left")
    for name in ("", "row", "releases", "expected", "observed"):
        table.add_column(name, overflow="fold", no_wrap=name in ("", "row"))
    table.add_column("seconds", justify="right", no_wrap=True)
    for one in findings:
        observed = Text(one.observed, COLOURS[one.observed])
        if one.check:
            observed.append(f"\n{one.check}", "dim")
        table.add_row(
            Text(SYMBOLS[one.observed], COLOURS[one.observed]),
            one.id,
            differing(one),
            expected(one),
            observed,
            f"{one.seconds:.1f}",
        )
    return Group(table, _reasons(findings), score(findings))


def _reasons(findings: Sequence[Finding]) -> Table:
    table = Table.grid(padding=(0, 1))
    for one in findings:
        if one.reason:
            lines = Text(f"{one.id} {one.observed}: {one.reason}\n<{one.link}>")
            table.add_row(Text(SYMBOLS[one.observed], COLOURS[one.observed]), lines)
    return table


def score(findings: Sequence[Finding]) -> Text:
    """Return how many rows came to what."""
    counts = Counter(one.observed for one in findings)
    told = "   ".join(f"{SYMBOLS[what]} {n} {what}" for what, n in counts.items())
    return Text(f"{told}   of {len(findings)}")
