"""What a run keeps in memory of records that are on the disk."""

from __future__ import annotations

import gc
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

from tunematrix.results.record import Record
from tunematrix.results.remembered import Shortening
from tunematrix.results.store import Store

COMMITTED = Path(__file__).parents[3] / "docs/verified"
CELLS = 300
MOST_BYTES = 1500
"""Of a record that is kept; a whole one has twenty times as many."""


def real() -> list[Record]:
    """Records of a real run."""
    return [record for file in sorted(COMMITTED.glob("cpu-*")) for record in Store(file).read()]


def test_all_that_a_summary_says_is_kept() -> None:
    """Only figures go, and checks that passed."""
    shortening = Shortening()
    for record in real():
        checks = tuple(check for check in record.checks if check.outcome != "passed")
        without = replace(record, metrics={}, durations={}, losses=(), stderr="")
        assert shortening.short(record) == replace(without, checks=checks)


def test_figures_and_checks_that_are_asked_for_are_kept() -> None:
    """As a page needs them, which holds runs against each other."""
    record = next(one for one in real() if "gap_closed" in one.metrics)
    shortening = Shortening(lambda name: name == "seconds", frozenset(["gap_closed"]))
    short = shortening.short(record)
    assert short.metrics == {"seconds": record.metrics["seconds"]}
    assert "gap_closed" in [check.name for check in short.checks]
    assert len(short.checks) < len(record.checks)


def test_what_many_have_alike_is_kept_once() -> None:
    """Though each comes by itself from another machine, as JSON."""
    text = json.dumps(real()[0].to_json())
    shortening = Shortening()
    one, other = (shortening.short(Record.from_json(json.loads(text))) for _ in range(2))
    assert one.versions is other.versions and one.machine is other.machine
    assert one.axes is other.axes and one.cell_id is other.cell_id
    changed = replace(real()[0], versions={**one.versions, "torch": "0.1"})
    assert shortening.short(changed).versions["torch"] == "0.1"


def test_a_text_that_looks_like_a_mapping_stays_a_text() -> None:
    """Whatever somebody's trainer says."""
    first = replace(real()[0], overrides={}, reason="")
    shortening = Shortening()
    assert shortening.short(first).overrides == {}
    assert shortening.short(replace(first, reason="{}")).reason == "{}"


def test_little_is_kept_of_each() -> None:
    """Else a hundred thousand would fill a machine's memory."""
    passed = [one for one in real() if one.outcome == "passed"]
    text = json.dumps(max(passed, key=lambda one: len(one.checks)).to_json())
    shortening, kept = Shortening(), []
    tracemalloc.start()
    try:
        for number in range(CELLS):
            record = Record.from_json({**json.loads(text), "cell_id": f"a[x-{number}]"})
            kept.append(shortening.short(record))
        del record
        gc.collect()
        bytes_of_each = tracemalloc.get_traced_memory()[0] / CELLS
    finally:
        tracemalloc.stop()
    assert len(kept) == CELLS
    assert bytes_of_each < MOST_BYTES
