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
    parts: list[Table | Text | Padding] = [*_each(ordered)]
    parts += [_classes(findings), _totals(findings)]
    others = (finding for finding in ordered if finding.fate != "detected")
    parts += [
        Text(f"{finding.fate} {finding.id}: {one_line(_why(finding))}", COLOURS[finding.fate])
        for finding in others
    ]
    parts += [Text(text, "bold red") for text in shortfalls(findings)]
    return Group(*parts)


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
    table = Table(box=SIMPLE, title="by class", title_justify="left")
    for name in ("class", "detected", "silent ones"):
        table.add_column(name, justify="left" if name == "class" else "right")
    for name, rows in by_class(findings).items():
        table.add_row(name, _share(score(rows)), _share(score(silent(rows))))
    table.add_row("all", _share(score(findings)), _share(score(silent(findings))), style="bold")
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
