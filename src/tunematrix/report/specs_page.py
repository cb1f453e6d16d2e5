"""The models of a spec → the tables of docs/specs.md: every field, each in its section.

`python -m tunematrix.report.specs_page docs/specs.md` writes them; so does `nox -s docs`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from tunematrix.configuration.reference import NAMES, Row, rows_of, table
from tunematrix.configuration.steps import PipelineSteps
from tunematrix.report.verified import placed
from tunematrix.spec.bounds import Range
from tunematrix.spec.model import Spec

CLOSED: Mapping[type, str] = {**NAMES, Range: "range", PipelineSteps: "section"}
"""What isn't opened where it is a field: ranges have a table of their own, steps a page."""
CLAIM, RANGES, TRAINERS = "claim", "ranges", "trainers"
"""Names of places in the page."""
PLACES = {
    "loss.": "losses",
    "logit_error.": "effects",
    "reload.": "effects",
    "memory.": "effects",
    "throughput.": "effects",
    "merge.": "readings",
    "generation.": "readings",
    "parity.": "readings",
    "transfer.": "readings",
    "relation.": "relations",
    "stderr.": "stderr",
    "known_failures[].": "known failures",
    "project_dir": TRAINERS,
    "config": TRAINERS,
    "trainer": TRAINERS,
    "dynamic_args": TRAINERS,
    "inference": TRAINERS,
    "finalize": TRAINERS,
    "steps": TRAINERS,
    "watch": TRAINERS,
}
"""How a key begins → the place of its table; other keys are in that of the claim."""


def tables() -> Mapping[str, str]:
    """Return the table of each place."""
    rows: Mapping[str, list[Row]] = defaultdict(list)
    for row in rows_of(Spec.model_fields, closed=CLOSED):
        place = next(
            (place for begins, place in PLACES.items() if row[0].startswith(begins)), CLAIM
        )
        rows[place].append(row)
    rows[RANGES].extend(rows_of(Range.model_fields))
    return {place: table(found, "field").rstrip() for place, found in rows.items()}


def page(text: str) -> str:
    """Return the page with its tables as they have to be.

    Raises:
        BadInput: the page lacks a place.
    """
    for place, made in tables().items():
        text = placed(made, text, f"fields: {place}")
    return text


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(page(file.read_text(encoding="utf-8")), encoding="utf-8")
