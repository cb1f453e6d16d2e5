"""Records, and what a terminal shows of them."""

from __future__ import annotations

from typing import Any

from tunematrix.checks.bound import AtLeast, AtMost
from tunematrix.checks.verdict import Verdict
from tunematrix.report.terminal import render, report
from tunematrix.results.record import Outcome, Record

AGAIN = "nox -s cpu -- 'a.yaml::a[cpu]'"
GAP = Verdict("gap_closed", "passed", 0.9, AtLeast(0.8), "of the gap", "")
SAME = Verdict("same_gradients_mean", "passed", 2.5e-8, AtMost(1e-6), "of the mean size", "at q")

WARNED = Verdict("watched_batches", "warned", 10, AtMost(5), "", "10 rows had been seen before")


def a_record(outcome: Outcome = "passed", **fields: Any) -> Record:
    """A record of one cell; one with a share of the gap has the check of it as well."""
    fields.setdefault("axes", {"recipe": "sft", "method": "lora", "quantizer": "none"})
    if "gap_closed" in fields.get("metrics", {}):
        fields["checks"] = (*fields.get("checks", ()), GAP)
    return Record("r", "a[cpu]", "a.yaml", "cpu", outcome=outcome, **fields)


def as_text(*records: Record, width: int = 80, colour: bool = False, whole: bool = False) -> str:
    """What the report of records looks like on a terminal."""
    return render(report(records, whole=whole), width, colour=colour)


def rows_of(text: str) -> list[str]:
    """The rows of the matrix, each with single spaces."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    first = next(number for number, line in enumerate(lines) if line.startswith("recipe method"))
    return lines[first + 1 : lines.index("", first)]
