"""Findings over regressions, for a terminal: what each row pins, and what noticed it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group
from rich.padding import Padding
from rich.text import Text

from tunematrix.proof.releases.trials import RegressionFinding
from tunematrix.proof.releases.verdicts import Observed
from tunematrix.versions.overlays import LEADING

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


def differing(finding: RegressionFinding) -> str:
    """Return what changed from the faulty side to the fixed one: `trl 0.13.0 → 0.14.0`."""
    faulty, fixed = finding.packages["faulty"] or {}, finding.packages["fixed"]
    if fixed is None:
        return "today's releases, none is fixed"
    other = [n for n in dict.fromkeys((*faulty, *fixed)) if faulty.get(n) != fixed.get(n)]
    names = [name for name in LEADING if name in other][:MOST] or other
    lines = [f"{n} {faulty.get(n, 'as it is')} → {fixed.get(n, 'as it is')}" for n in names]
    return ", ".join(lines)


def expected(finding: RegressionFinding) -> str:
    """Return what had to fail, in words."""
    told = finding.expected
    return told.get("check") or f"{told['raises']} in {told['phase']}"


def tables(findings: Sequence[RegressionFinding]) -> Group:
    """Return what became of each row, in paragraphs that no width folds, and the score."""
    return Group(*(part for one in findings for part in _row(one)), score(findings))


def _row(one: RegressionFinding) -> Iterator[Text | Padding]:
    head = Text(f"{SYMBOLS[one.observed]} {one.id}", f"{COLOURS[one.observed]}")
    head.append(f"  {one.shows}", "not bold default")
    yield head
    below = Text(f"{differing(one)}\n", "dim")
    below.append(f"{one.observed}: ", COLOURS[one.observed])
    below.append(one.check or f"expected {expected(one)}; {one.reason}")
    below.append(f"  {one.seconds:.1f} s", "dim")
    if one.reason:
        below.append(f"\n<{one.link}>", "dim")
    yield Padding(below, (0, 0, 0, 2))


def score(findings: Sequence[RegressionFinding]) -> Text:
    """Return how many rows came to what."""
    counts = Counter(one.observed for one in findings)
    told = "   ".join(f"{SYMBOLS[what]} {n} {what}" for what, n in counts.items())
    return Text(f"{told}   of {len(findings)}")
