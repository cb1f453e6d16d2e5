"""Committed records become the table of where the suite has run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tunematrix.errors import BadInput
from tunematrix.report.verified import CLOSING, OPENING, as_markdown, placed, verified_runs
from tunematrix.results.record import Outcome, Record

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
    (run,) = verified_runs(RUN)
    assert run.date == "2026-11-22"
    assert run.versions == {"torch": "2.13.0"}
    assert list(run.counts.items()) == [("failed", 1), ("passed", 3), ("unsupported", 1)]
    assert run.quantizers == {"none": 1, "bnb-nf4": 2}
    (line,) = as_markdown({"cuda": "on a GPU"}, [run]).splitlines()[2:]
    assert line == (
        "| `cuda` | Xeon<br>Linux x86_64, Python 3.11.2 | torch 2.13.0 | 2026-11-22 | "
        "1 failed, 3 passed, 1 unsupported<br>passed by quantizer: none 1, bnb-nf4 2 |"
    )


def test_the_gpu_is_the_hardware_where_there_is_one() -> None:
    """The processor beside it says little."""
    gpu = [replace(one, machine={**MACHINE, "gpu": "NVIDIA H200"}) for one in RUN]
    assert verified_runs(gpu)[0].hardware == "NVIDIA H200"


def test_relations_are_no_cells_of_a_quantizer() -> None:
    """Their arms are, already."""
    axes = {"quantizer": "none|bnb-nf4"}
    relation = replace(RUN[0], outcome="passed", arms=("x", "y"), axes=axes)
    (run,) = verified_runs([*RUN, relation])
    assert run.quantizers == {"none": 1, "bnb-nf4": 2}
    assert run.counts == verified_runs(RUN)[0].counts
    assert run.relations == {"passed": 1}
    assert "<br>relations: 1 passed |" in as_markdown({run.environment: ""}, [run])


def test_an_environment_without_records_says_so() -> None:
    """What never ran must not look as if it had; runs of two machines stand below each other."""
    other = [replace(one, run_id="20261123-101500-123") for one in RUN]
    table = as_markdown({"cpu": "no GPU", "cuda": "on a GPU"}, verified_runs([*RUN, *other]))
    rows = table.splitlines()[2:]
    assert len(rows) == 3
    assert rows[0] == "| `cpu` | **not yet run on its hardware** | no GPU | – | – |"


def test_the_table_goes_where_the_page_has_a_place_for_it() -> None:
    """What stood there goes, what stands around it stays."""
    page = f"above\n{OPENING}\nold\n{CLOSING}\nbelow\n"
    assert placed("new", page) == f"above\n{OPENING}\nnew\n{CLOSING}\nbelow\n"
    for torn in ("above", f"{OPENING} alone", f"{CLOSING} before {OPENING}"):
        with pytest.raises(BadInput, match="no place for the table"):
            placed("new", torn)
