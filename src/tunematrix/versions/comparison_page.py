"""What a step from one set of releases to another changes, as Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tunematrix.report.past import Moved
from tunematrix.report.summary import LONGEST, code, fenced, folded, in_table
from tunematrix.report.text import one_line
from tunematrix.versions.comparison import BREAKS, ItemTurn, Turn, UpgradeComparison
from tunematrix.versions.comparison_view import (
    DOUBTFUL,
    ENTERED,
    LEFT,
    SIGNS,
    count_line,
    fault_line,
    figure_lines,
    item_head,
    item_lines,
    ratio_lines,
    untested_lines,
    verdict_line,
)
from tunematrix.versions.released_faults import ReleasedFault


def comparison_page(comparison: UpgradeComparison, environment: str, longest: int = LONGEST) -> str:
    """Return a section: the verdict, what breaks, known faults, figures, and versions folded.

    Args:
        comparison: of the two sets. environment: whose cells.
        longest: most characters of the page; what doesn't fit is left out, and that is said.
    """
    sign = SIGNS["fixed" if comparison.is_safe else "broken"][0]
    head = f"## {sign} Upgrade of {code(environment)}\n\n{verdict_line(comparison)}\n"
    head += f"<br>cells and relations: {count_line(comparison)}\n"
    note = "\nThe rest is left out here, being too long.\n"
    text = head
    for part in _parts(comparison):
        if len(text) + len(part) + len(note) > longest:
            return text + note
        text += part
    return text


def _parts(comparison: UpgradeComparison) -> Iterator[str]:
    if notes := [*map(one_line, comparison.notes), *untested_lines(comparison)]:
        yield f"\n{fenced(chr(10).join(notes))}\n"
    for item in comparison.of(*BREAKS):
        yield _item(item)
    faults = comparison.faults
    sides = ((ENTERED, faults.entered), (DOUBTFUL, faults.doubtful), (LEFT, faults.left))
    for what, these in sides:
        yield from (f"\n**{what.capitalize()}:** {_fault(one)}\n" for one in these)
    figures = [*figure_lines(comparison.figures), *ratio_lines(comparison.ratios)]
    if figures:
        yield f"\n{fenced(chr(10).join(figures))}\n"
    kinds: tuple[Turn, ...] = ("fixed", "gained", "other")
    for turn in kinds:
        if items := comparison.of(turn):
            sign, _, words = SIGNS[turn]
            yield folded(f"{sign} {len(items)} {words}", "".join(map(_item, items)))
    if comparison.versions:
        yield folded(f"{len(comparison.versions)} versions differ", _versions(comparison.versions))


def _item(item: ItemTurn) -> str:
    lines = "\n".join(item_lines(item))
    head = f"\n**{SIGNS[item.turn][0]}** {code(item_head(item))}\n"
    return f"{head}\n{fenced(lines)}\n" if lines else head


def _fault(fault: ReleasedFault) -> str:
    return f"{code(fault_line(fault))} {one_line(fault.link)}"


def _versions(versions: Sequence[Moved]) -> str:
    rows = [f"| {in_table(one.name)} | {in_table(one.before)} | {in_table(one.after)} |"
            for one in versions]  # fmt: skip
    return "\n".join(["| package | before | after |", "|---|---|---|", *rows])
