from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tunematrix.report import past
from tunematrix.report.past import Flip, Moved
from tunematrix.report.past_terminal import overview, side_by_side, story
from tunematrix.report.terminal import render
from tunematrix.results.record import Outcome, Record
from tunematrix.results.run_line import RunLine

OLD, NEW = {"torch": "2.12.0", "peft": "0.21.1"}, {"torch": "2.12.0", "peft": "0.21.2"}
EPYC = {"system": "Linux", "hardware": "AMD EPYC", "PYTHONHASHSEED": "0"}


def record(day: int, outcome: Outcome = "passed", cell: str = "a[cpu]", **fields: Any) -> Record:
    """A record of one day of November."""
    given: dict[str, Any] = {"machine": EPYC, "versions": OLD, "spec_digest": "abcdef0123"}
    run = f"202611{day:02}-080000-0000"
    return Record(run, cell, "a.yaml", "cpu", {}, outcome, **{**given, **fields})


def told(*records: Record) -> str:
    """The story of some records, on a terminal of 80 columns."""
    return render(story(past.threads(records)), 80, colour=False)


def test_records_that_ended_alike_are_one_stretch() -> None:
    """What has changed stands where the outcome did, and when it passed last below."""
    broken: dict[str, Any] = {"versions": NEW, "reason": "gradient: 0.3, and at most 0.001"}
    text = told(record(1), record(2), record(3, "failed", **broken), record(4, "failed", **broken))
    assert text == (
        "✗ a[cpu]   cpu on AMD EPYC\n"
        "  passed   2 times, 2026-11-01 08:00 to 2026-11-02 08:00\n"
        "  since then: peft 0.21.1 → 0.21.2\n"
        "  failed   2 times, 2026-11-03 08:00 to 2026-11-04 08:00\n"
        "  gradient: 0.3, and at most 0.001\n"
        "  it passed last on 2026-11-02 08:00 with torch 2.12.0, peft 0.21.1\n"
    )


def test_a_flip_without_any_change() -> None:
    """Has no line of what changed; and a cell that never passed is said to be so."""
    assert "since" not in told(record(1), record(2, "failed"), record(3))
    assert told(record(1, "failed")).endswith("  it has never passed here\n")


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"machine": {**EPYC, "PYTHONHASHSEED": "1"}}, "since then: PYTHONHASHSEED 0 → 1"),
        ({"overrides": {"train.max_steps": 6}}, "since then: train.max_steps – → 6"),
        ({"spec_digest": "0123456789"}, "since then: its spec abcdef01 → 01234567"),
        ({"versions": {**OLD, "trl": "1.16.0"}}, "since then: trl – → 1.16.0"),
    ],
)
def test_whatever_determines_a_figure_is_told(changed: dict[str, Any], line: str) -> None:
    """Switches, overrides, the spec and what was installed."""
    assert f"  {line}\n" in told(record(1), record(2, "failed", **changed))


def test_what_was_not_recorded_is_no_change() -> None:
    """A cell that didn't run knows no versions, and its machine by half."""
    absent = record(2, "unavailable", versions={}, machine={}, spec_digest="")
    (thread, other) = past.threads([record(1), absent]).values()
    assert [one.since for one in (*thread, *other)] == [(), ()]


def test_other_hardware_is_another_thread() -> None:
    """What passes on one kind of machine says nothing of another."""
    mac = record(2, "failed", machine={**EPYC, "hardware": "Apple M4"})
    assert [thread.hardware for thread in past.threads([record(1), mac])] == [
        "AMD EPYC",
        "Apple M4",
    ]


def test_two_runs_side_by_side() -> None:
    """How cells ended, what differs for all of them, and how figures moved."""
    figures = [
        {"seconds": 2.0, "process_peak_mb": 100.0},
        {"seconds": 3.0, "process_peak_mb": 90.0},
    ]
    before = [record(1, cell=f"a[{n}]", metrics=figures[0]) for n in range(3)]
    after = [record(2, cell=f"a[{n}]", versions=NEW, metrics=figures[1]) for n in range(3)]
    hashed = {**EPYC, "PYTHONHASHSEED": "1"}
    after[1] = replace(after[1], metrics={"seconds": 8.0}, machine=hashed)
    after[2] = replace(after[2], outcome="failed", reason="lost")
    new = record(2, cell="new", versions=NEW)
    found = past.compared([*before, record(1, cell="gone")], [*after, new])
    assert found.differences == (Moved("peft", "0.21.1", "0.21.2"),)
    assert found.same == 2
    assert found.flips == (
        Flip("a[2]", "passed", "failed", "lost"),
        Flip("gone", "passed", None, ""),
        Flip("new", None, "passed", ""),
    )
    seconds, memory = found.ratios
    assert (seconds.median, seconds.cells, seconds.extreme) == (2.75, 2, 4.0)
    assert (memory.median, memory.cells, memory.cell_id) == (0.9, 1, "a[0]")


def test_runs_in_a_list() -> None:
    """The versions of the first of its kind, and what is new in later ones."""
    lines = [RunLine("cpu", f"2026110{day}-080000-0000", EPYC, OLD) for day in (1, 2)]
    lines.append(RunLine("cpu", "20261103-080000-0000", EPYC, NEW))
    lines[2].cells.update({"passed": 2, "failed": 1})
    assert render(overview(lines), 80, colour=False) == (
        "2026-11-01 08:00  cpu on AMD EPYC\n"
        "  run 20261101-080000-0000\n"
        "  with torch 2.12.0, peft 0.21.1\n"
        "2026-11-02 08:00  cpu on AMD EPYC\n"
        "  run 20261102-080000-0000\n"
        "2026-11-03 08:00  cpu on AMD EPYC\n"
        "  run 20261103-080000-0000\n"
        "  cells: ✗ 1 failed   ✓ 2 passed\n"
        "  since then: peft 0.21.1 → 0.21.2\n"
    )


def test_what_was_recorded_moves_no_cursor() -> None:
    """Escapes and line breaks of hostile records are written out, wherever they stand."""
    bad = "\x1b[2J\r\u202e"
    machine: dict[str, Any] = {"hardware": bad, "PYTHONHASHSEED": bad}
    hostile = record(2, "failed", bad, reason=bad, versions={"torch": bad}, machine=machine)
    hostile = replace(hostile, environment=bad, run_id=bad)
    mild = replace(hostile, outcome="passed", versions={"torch": "1"}, run_id="1")
    line = RunLine(bad, bad, machine, {"torch": bad})
    shown = [
        story(past.threads([mild, hostile])),
        overview([line, replace(line, versions={"torch": "2"})]),
        side_by_side(line, line, past.compared([mild], [hostile])),
    ]
    for one in shown:
        text = render(one, 80, colour=False)
        assert not {"\x1b", "\r", "\u202e"} & set(text)
        assert r"\x1b[2J" in text
