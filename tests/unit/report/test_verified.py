"""Committed records become the table of where the suite has run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tunematrix.errors import BadInput
from tunematrix.report.rows import runs
from tunematrix.report.verified import as_markdown, passed_by_quantizer, placed
from tunematrix.results.record import Outcome, Record

OPENING, CLOSING = "<!-- verified -->", "<!-- /verified -->"
MACHINE = {
    "system": "Linux",
    "architecture": "x86_64",
    "hardware": "Xeon",
    "python": "3.11.2",
}


def record(cell: str, outcome: Outcome, quantizer: str = "none") -> Record:
    """One cell of one run in `cuda`."""
    return Record(
        run_id="20261122-101500-123",
        cell_id=cell,
        spec="configs/specs/lora.yaml",
        environment="cuda",
        axes={"quantizer": quantizer},
        outcome=outcome,
        versions={"torch": "2.13.0", "numpy": "2.4.0"} if outcome == "passed" else {},
        machine=MACHINE,
    )


RUN = (
    record("full", "unsupported", "bnb-nf4"),
    record("a", "passed"),
    record("b", "passed", "bnb-nf4"),
    record("c", "passed", "bnb-nf4"),
    record("d", "failed", "hqq-int4"),
)


def test_one_run_is_one_line() -> None:
    """Outcomes worst first, passed cells of each quantizer, the versions that readers look for."""
    (run,) = runs(RUN)
    (line,) = as_markdown({"cuda": "on a GPU"}, [run]).splitlines()[2:]
    assert line == (
        "| `cuda` | Xeon<br>Linux x86_64, Python 3.11.2 | torch 2.13.0 | 2026-11-22 | "
        "1 failed, 3 passed, 1 unsupported<br>passed by quantizer: none 1, bnb-nf4 2 |"
    )


def test_an_interrupted_run_says_so() -> None:
    """Before its counts, so that they aren't taken for all that there is."""
    (run,) = runs(replace(one, planned=9) for one in RUN)
    assert " | **interrupted: 5 of 9 ran**<br>1 failed, " in as_markdown({"cuda": ""}, [run])


def test_relations_are_no_cells_of_a_quantizer() -> None:
    """Their arms are, already."""
    axes = {"quantizer": ("none", "bnb-nf4")}
    relation = replace(RUN[0], outcome="passed", arms=("x", "y"), axes=axes)
    (run,) = runs([*RUN, relation])
    assert passed_by_quantizer(run.cells) == {"none": 1, "bnb-nf4": 2}
    assert "<br>relations: 1 passed |" in as_markdown({run.environment: ""}, [run])


def test_an_environment_without_records_says_so() -> None:
    """What never ran must not look as if it had; runs of two machines stand below each other."""
    other = [replace(one, run_id="20261123-101500-123") for one in RUN]
    table = as_markdown({"cpu": "no GPU", "cuda": "on a GPU"}, runs([*RUN, *other]))
    rows = table.splitlines()[2:]
    assert len(rows) == 3
    assert rows[0] == "| `cpu` | **not yet run on its hardware** | no GPU | – | – |"


ATTACKS = (
    "a | b",
    "a\n\n# Title",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "`code`",
    f"{CLOSING} over",
    "\x1b]0;owned\x07",
)


@pytest.mark.parametrize("attack", ATTACKS)
def test_records_put_nothing_into_a_page(attack: str) -> None:
    """Whatever stands in them: it is text within its own cell, and no markup."""
    keys = ("hardware", "system", "architecture", "python")
    machine = dict.fromkeys(keys, attack)
    odd = replace(
        record("a", "passed", attack),
        machine=machine,
        versions={"torch": attack},
        environment=attack,
    )
    table = as_markdown({"cpu": "no GPU"}, runs([odd]))
    rows = table.splitlines()
    assert [row.count("|") for row in rows] == [6] * 4
    text = rows[-1].replace("<br>", "")
    assert not set(text) & set("<>[]`\x1b\x07")


def test_the_table_goes_where_the_page_has_a_place_for_it() -> None:
    """What stood there goes, what stands around it stays."""
    page = f"above\n{OPENING}\nold\n{CLOSING}\nbelow\n"
    assert placed("new", page) == f"above\n{OPENING}\nnew\n{CLOSING}\nbelow\n"
    for torn in ("above", f"{OPENING} alone", f"{CLOSING} before {OPENING}"):
        with pytest.raises(BadInput, match="no place for the table"):
            placed("new", torn)
