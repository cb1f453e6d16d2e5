"""Committed records → the table of where the suite has run: environments, hardware, versions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tunematrix.errors import BadInput
from tunematrix.report.rows import Run, counts, in_words, plain_first
from tunematrix.report.text import markdown
from tunematrix.results.record import Outcome, Record, shown_option

PLACE = "verified"
"""Names the table's place in a page."""
_CODE = re.compile(r"[\w.+-]+")


def as_markdown(environments: Mapping[str, str], runs: Sequence[Run]) -> str:
    """Return the table; an environment (name to description) without a run says so.

    Whatever the records hold is shown as it is: nothing in them is taken for Markdown or HTML.
    """
    lines = ["| environment | ran on | with | date | cells |", "|---|---|---|---|---|"]
    others = {run.environment: "" for run in runs if run.environment not in environments}
    for name, description in {**environments, **others}.items():
        mine = [run for run in runs if run.environment == name]
        what = markdown(description)
        lines += [_line(run) for run in mine] or [
            f"| {_named(name)} | **not yet run on its hardware** | {what} | – | – |"
        ]
    return "\n".join(lines)


def placed(table: str, text: str, place: str = PLACE) -> str:
    """Return a page with `table` in its place, between two comments that name the place.

    Raises:
        BadInput: the page has no place for it.
    """
    start, end = f"<!-- {place} -->", f"<!-- /{place} -->"
    before, opening, rest = text.partition(start)
    _, closing, after = rest.partition(end)
    if not (opening and closing):
        message = f"the page has no place for the table; write {start} and {end} there"
        raise BadInput(message)
    return f"{before}{opening}\n{table}\n{closing}{after}"


def passed_by_quantizer(cells: Iterable[Record]) -> Mapping[str, int]:
    """Return how many cells of each quantizer passed, in order."""
    passed = (record for record in cells if record.outcome == "passed")
    found = Counter(shown_option(record.axes.get("quantizer", "none")) for record in passed)
    return {name: found[name] for name in sorted(found, key=plain_first)}


def _line(run: Run) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run.named_versions.items())
    by_quantizer = passed_by_quantizer(run.cells)
    each = ", ".join(f"{name} {count}" for name, count in by_quantizer.items())
    cells = f"{_in_words(counts(run.cells))}<br>passed by quantizer: {markdown(each)}"
    if run.interrupted:
        cells = f"**{run.interrupted}**<br>{cells}"
    if run.relations:
        cells += f"<br>relations: {_in_words(counts(run.relations))}"
    where = f"{markdown(run.hardware)}<br>{markdown(run.system)}"
    return f"| {_named(run.environment)} | {where} | {markdown(versions)} | {run.date} | {cells} |"


def _named(environment: str) -> str:
    return f"`{environment}`" if _CODE.fullmatch(environment) else markdown(environment)


def _in_words(outcomes: Mapping[Outcome, int]) -> str:
    return ", ".join(f"{n} {in_words(outcome, n)}" for outcome, n in outcomes.items())
