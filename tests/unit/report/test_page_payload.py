"""What a page says of a cell, a relation and a pair of runs, before any browser draws it."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from tunematrix.checks.bound import (
    Around,
    AtLeast,
    AtMost,
    Below,
    Between,
    Bound,
    Exactly,
    Measured,
    Near,
    Recorded,
)
from tunematrix.checks.verdict import Verdict
from tunematrix.report.html.gathering import gather
from tunematrix.report.html.page import page_of
from tunematrix.report.html.payload import Page, Scale
from tunematrix.report.html.showing import shown_bound, shown_check
from tunematrix.report.html.sources import lines_of
from tunematrix.report.past import compared
from tunematrix.results.record import Record
from tunematrix.results.store import Store

COMMITTED = Path(__file__).parents[3] / "docs/verified"
HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e=cmd|'/c calc'!A0 ../../etc/passwd \x00"


@pytest.fixture(scope="module")
def page() -> Page:
    """A page about all records of docs/verified."""
    return page_of(gather([lines_of(file) for file in sorted(COMMITTED.glob("*.jsonl"))]))


@pytest.mark.parametrize(
    ("bound", "measured", "text", "scale"),
    [
        (AtMost(0.5), 0.25, "≤ 0.5", Scale(0.25, None, 0.5)),
        (AtMost(0.0), 0.0, "≤ 0", Scale(0.0, None, 0.0)),
        (AtMost(2), 1, "≤ 2", Scale(1, None, 2)),
        (Below(0.5), 0.25, "< 0.5", Scale(0.25, None, 0.5)),
        (AtLeast(0.85), 0.9, "≥ 0.85", Scale(0.9, 0.85, None)),
        (Between(0.5, 1.0), 0.7, "0.5 to 1", Scale(0.7, 0.5, 1.0)),
        (Between(-1.0, 1.0), -0.7, "-1 to 1", Scale(-0.7, -1.0, 1.0)),
        (Around(5.0, 0.5), 5.25, "5 ± 0.5", Scale(5.25, 4.5, 5.5, 5.0)),
        (Near(32.0, 0.25), 32.0, "32 ± 25 %", Scale(32.0, 24.0, 40.0, 32.0)),
        (Near(-4.0, 0.25), -4.0, "-4 ± 25 %", Scale(-4.0, -5.0, -3.0, -4.0)),
        (Exactly(28), 28, "28", None),
        (Exactly("cpu"), "cpu", "cpu", None),
        (Recorded("<= 0.1 of old"), 0.05, "<= 0.1 of old", None),
        (None, None, "", None),
        (AtMost(0.5), None, "≤ 0.5", Scale(None, None, 0.5)),
        (AtMost(0.5), math.nan, "≤ 0.5", Scale(None, None, 0.5)),
        (AtMost(0.5), math.inf, "≤ 0.5", Scale(None, None, 0.5)),
        (AtMost(0.5), "a word", "≤ 0.5", Scale(None, None, 0.5)),
        (AtLeast(-math.inf), 1.0, "≥ -inf", Scale(1.0, -math.inf, None)),
        (Exactly(HOSTILE), "cpu", None, None),
    ],
)
def test_bounds_have_a_text_and_a_place(
    bound: Bound | None, measured: Measured, text: str | None, scale: Scale | None
) -> None:
    """Each kind of bound; figures that aren't finite lie nowhere."""
    shown, place = shown_bound(bound, measured)
    assert place == scale
    assert shown == text if text is not None else _is_harmless(shown)


def test_a_failed_figure_never_seems_to_hold_its_bound() -> None:
    """It is shown with more digits."""
    failed = shown_check(Verdict("loss", "failed", 0.500004, AtMost(0.5), "nats", "too high"))
    passed = shown_check(Verdict("loss", "passed", 0.499996, AtMost(0.5), "nats", ""))
    assert (failed.measured, failed.bound) == ("0.500004", "≤ 0.5")
    assert passed.measured == "0.5"


def test_every_record_is_there(page: Page) -> None:
    """With its outcome, its checks and its command."""
    records = [
        record for file in sorted(COMMITTED.glob("*.jsonl")) for record in Store(file).read()
    ]
    assert len(page.cells) == len(records) and len(page.runs) == 4
    for cell, record in zip(page.cells, records, strict=True):
        assert (cell.id, cell.outcome) == (record.cell_id, record.outcome)
        assert [check.name for check in cell.checks] == [check.name for check in record.checks]
        assert record.cell_id in cell.again and cell.again.startswith("tunematrix run -e ")
        assert set(cell.arms) == set(record.arms)


def test_the_nearest_check_of_a_relation(page: Page) -> None:
    """It is one of those that compare, and has the least slack of them."""
    relations = [cell for cell in page.cells if cell.arms]
    assert relations
    for cell in relations:
        nearest = None if cell.nearest is None else cell.checks[cell.nearest]
        assert nearest is not None and nearest.name.startswith(("same_", "ratio_"))
    assert all(cell.nearest is None for cell in page.cells if not cell.arms)


def test_memory_stands_against_what_is_allowed(page: Page) -> None:
    """By kind; what has no bound is shown all the same."""
    (cell,) = [one for one in page.cells if one.id == "memory-bnb[cpu-lora]" and one.run == 1]
    kinds = {one.kind: (one.bound, one.scale.high) for one in cell.memory}
    assert kinds["stored"] == ("≤ 104", 104.0)
    assert kinds["stored bits"][0] == "32 ± 1 %"
    (other,) = [one for one in page.cells if one.id == "lora[cpu-lora-none]" and one.run == 1]
    assert {one.kind for one in other.memory if not one.bound} == {"stored", "process peak"}


def test_two_runs_are_compared_as_in_the_terminal(page: Page) -> None:
    """The same differences, and as many cells that ended alike; the older run is the first."""
    first, second = (
        Store(COMMITTED / f"cpu-linux-x86-64-{name}.jsonl").read()
        for name in ("intel-r-xeon-r-processor", "amd-epyc")
    )
    expected = compared(first, second)
    pair = page.comparisons[0]
    shared = {one.cell_id for one in first} & {one.cell_id for one in second}
    assert pair.same == expected.same == len(shared) > 300
    assert [(one.name, one.before, one.after) for one in pair.moves] == list(expected.differences)
    assert len(pair.cells) == len({one.cell_id for one in (*first, *second)})
    assert not any(cell.reason for cell in pair.cells)


def test_parity_is_told_across_backends(page: Page) -> None:
    """By precision, each value in all four runs."""
    assert {row.group for row in page.parity} == {"fp32", "bf16", "fp16"}
    for row in page.parity:
        assert len(row.values) == 4 and None not in row.values
        assert row.spread is not None
        assert row.spread < {"fp32": 1e-5, "bf16": 0.02, "fp16": 1e-3}[row.group]


def test_bands_of_a_baseline_are_passed_on() -> None:
    """Whatever gives them."""
    file = COMMITTED / "mlx-linux-x86-64-amd-epyc.jsonl"

    def bands(record: Record) -> dict[str, tuple[float, float]]:
        return {"seconds": (0.5, 1.5)} if record.metrics else {}

    page = page_of(gather([lines_of(file)]), bands=bands)
    assert {bool(cell.bands) for cell in page.cells if cell.figures} == {True}


def test_what_a_hostile_record_says_is_harmless(tmp_path: Path) -> None:
    """Control characters are written out, in every text there is; the rest stays as it was."""
    (source,) = COMMITTED.glob("mlx-*amd-epyc.jsonl")
    odd = _spoilt(Store(source).read()[0])
    Store(tmp_path / "odd.jsonl").append(odd)
    page = page_of(gather([lines_of(tmp_path / "odd.jsonl")]))
    data = json.loads(TypeAdapter(Page).dump_json(page))
    texts = list(_texts(data))
    assert all(map(_is_harmless, texts))
    assert sum("<script>alert(1)</script>" in text for text in texts) >= 12


def _spoilt(record: Record) -> Record:
    check = Verdict(HOSTILE, "failed", HOSTILE, Exactly(HOSTILE, note=HOSTILE), HOSTILE, HOSTILE)
    return replace(
        record,
        run_id=HOSTILE,
        cell_id=HOSTILE,
        spec=HOSTILE,
        environment=HOSTILE,
        axes={HOSTILE: HOSTILE, "method": HOSTILE},
        outcome="failed",
        reason=HOSTILE,
        link=f"javascript:{HOSTILE}",
        checks=(check,),
        metrics={HOSTILE: 1.0, f"parity_{HOSTILE}": 2.0, "seconds": 1.0},
        durations={HOSTILE: 1.0},
        versions={HOSTILE: HOSTILE},
        machine={HOSTILE: HOSTILE, "hardware": HOSTILE, "system": HOSTILE},
        overrides={HOSTILE: HOSTILE},
        planted=HOSTILE,
        faults=(HOSTILE,),
        stderr=HOSTILE,
        backend=HOSTILE,
    )


def _texts(data: Any) -> Iterator[str]:
    """All texts of some data, names of fields too."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield key
            yield from _texts(value)
    elif isinstance(data, list):
        for value in data:
            yield from _texts(value)


def _is_harmless(text: str) -> bool:
    """No character moves a cursor or turns the text round."""
    return all(one == "\n" or unicodedata.category(one) not in ("Cc", "Cf") for one in text)
