"""Which check noticed which fault, and the score by class, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tunematrix.proof.faults.score import (
    FATES,
    Fate,
    Finding,
    Score,
    by_class,
    noticed_by,
    parts,
    score,
    shortfalls,
    silent,
)
from tunematrix.report.text import one_line

NAMED = 4
COLOURS: dict[Fate, str] = {
    "detected": "green",
    "missed": "bold red",
    "unreached": "yellow",
    "crashed": "magenta",
    "broken": "magenta",
}


def summary(findings: Sequence[Finding]) -> Group:
    """Return what became of each fault, the score by class, and what is short of its promise."""
    ordered = [finding for rows in by_class(findings).values() for finding in rows]
    shown: list[Table | Text | Padding] = [*_each(ordered)]
    shown += [_classes(findings), _scores(findings), _totals(findings)]
    others = (finding for finding in ordered if finding.fate != "detected")
    shown += [
        Text(f"{finding.fate} {finding.id}: {one_line(_why(finding))}", COLOURS[finding.fate])
        for finding in others
    ]
    shown += [Text(text, "bold red") for text in shortfalls(findings)]
    return Group(*shown)


def line(finding: Finding) -> str:
    """Return what became of a fault in a few words."""
    quiet = " (silent)" if finding.silent and finding.fate == "detected" else ""
    by = f" by {finding.by} in {finding.where}{quiet}" if finding.by else ""
    return f"{finding.fate.upper()}{by} {finding.seconds:.0f} s"


def _each(findings: Sequence[Finding]) -> Iterator[Text | Padding]:
    """Yield two lines a fault: what it does, and what became of it. A table would fold its ids."""
    for finding in findings:
        what = Text(finding.id, "bold")
        what.append(f"  {one_line(finding.summary)}", "not bold")
        yield what
        fate = Text(f"{finding.by or finding.fate}", COLOURS[finding.fate])
        if finding.by:
            place = f"{finding.where}, silent" if finding.silent else finding.where
            figure = one_line(f"{_figure(finding)}, wanted {finding.bound} ({place})")
            fate.append(f" {figure}", "dim")
        yield Padding(fate, (0, 0, 0, 2))


def _classes(findings: Sequence[Finding]) -> Table:
    """Return how many of each class were reached, detected and missed, and by which checks."""
    table = Table(box=SIMPLE, title="by class", title_justify="left")
    table.add_column("class", no_wrap=True)
    for name in ("reached", "detected", "missed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("noticed by", overflow="fold")
    for name, rows in by_class(findings).items():
        reached = Score(sum(finding.is_reached for finding in rows), len(rows))
        missed = sum(finding.fate == "missed" for finding in rows)
        each = noticed_by(rows).items()
        by = ", ".join(check if count == 1 else f"{check} ×{count}" for check, count in each)
        table.add_row(name, _share(reached), _share(score(rows)), str(missed or ""), Text(by))
    return table


def _scores(findings: Sequence[Finding]) -> Table:
    table = Table(box=SIMPLE, title="score", title_justify="left")
    for name in ("of which", "detected", "silent ones"):
        table.add_column(name, justify="left" if name == "of which" else "right")
    for name, rows in parts(findings).items():
        style = "bold" if name == "all" else ""
        table.add_row(name, _share(score(rows)), _share(score(silent(rows))), style=style)
    return table


def _totals(findings: Sequence[Finding]) -> Text:
    text = Text()
    for fate in FATES:
        if count := sum(finding.fate == fate for finding in findings):
            text.append(f"{count} {fate}   ", COLOURS[fate])
    seconds = sum(finding.seconds for finding in findings)
    text.append(f"{seconds / 60:.1f} minutes of cells", "dim")
    return text


def _why(finding: Finding) -> str:
    if finding.fate in ("crashed", "broken"):
        return finding.reason
    if not finding.tried:
        return "every cell that could notice it also fails without it"
    what = {"missed": "nothing noticed it in", "unreached": "it changed nothing in"}
    more = f" and {len(finding.tried) - NAMED} more" if len(finding.tried) > NAMED else ""
    left = ", ".join(finding.unusable[:NAMED])
    without = f"; not tried, since they fail here without it: {left}" if left else ""
    return f"{what[finding.fate]} {', '.join(finding.tried[:NAMED])}{more}{without}"


def _figure(finding: Finding) -> str:
    value = finding.measured
    shown = f"{value:.3g}" if isinstance(value, float) else str(value if value is not None else "")
    return f"{shown} {finding.unit}".strip()


def _share(part: Score) -> str:
    return f"{part.detected}/{part.of}" if part.of else "–"
