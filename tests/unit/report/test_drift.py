from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunematrix.baselines.kept import Baselines
from tunematrix.baselines.model import Band, Baseline, CellBands
from tunematrix.checks.bound import Between
from tunematrix.checks.verdict import Verdict
from tunematrix.report import past
from tunematrix.report.drift import MOST, notes
from tunematrix.report.past_terminal import story
from tunematrix.report.terminal import render
from tunematrix.results.record import Outcome, Record
from tunematrix.results.store import Store

EPYC = {"hardware": "AMD EPYC", "cpus": 2, "commit": "0123456789ab"}
BAND = Between(0.48, 0.55, note="as in 20 runs")


def record(
    day: int, loss: float = 0.5, outcome: Outcome = "passed", cell: str = "a[cpu]", **fields: Any
) -> Record:
    """A record of one day of November."""
    given: dict[str, Any] = {
        "machine": EPYC,
        "versions": {"torch": "2.13.0"},
        "spec_digest": "abcdef0123",
        "base_id": cell,
        "metrics": {"heldout_loss": loss},
    }
    run = f"202611{day:02}-080000-0000"
    return Record(run, cell, "a.yaml", "cpu", {}, outcome, **{**given, **fields})


def drifted(one: Record, measured: float | None) -> Record:
    """The record with a figure that left its band."""
    verdict = Verdict("baseline_heldout_loss", "warned", measured, BAND, "nats/token", "it drifted")
    return replace(one, checks=(verdict,))


def told(now: list[Record], before: list[Record], folder: Path) -> list[str]:
    """The notes of a run, after others."""
    store = Store(folder / "results.jsonl")
    for one in (*before, *now):
        store.append(one)
    return list(notes(now, store, Baselines()))


def test_drift_is_told_with_what_was_before(tmp_path: Path) -> None:
    """The newest five figures, of the same kind of machine and without faults."""
    before = [record(day, 0.5 + day / 1000) for day in range(1, 8)]
    elsewhere = record(8, 9.0, machine={**EPYC, "hardware": "Apple M4"})
    sabotaged = record(9, 9.0, faults=("a:b",))
    now = drifted(record(10, 0.6), 0.6)
    assert told([now], [*before, elsewhere, sabotaged], tmp_path) == [
        "drift: a[cpu] heldout_loss 0.505 0.506 0.507 → 0.6 nats/token, "
        "band 0.48 to 0.55, as in 20 runs"
    ]


@pytest.mark.parametrize(
    ("measured", "shown"),
    [(None, "0.5 → not measured nats/token"), (float("nan"), "0.5 → nan nats/token")],
)
def test_drift_without_a_figure(measured: float | None, shown: str, tmp_path: Path) -> None:
    """It is told all the same."""
    (line,) = told([drifted(record(2), measured)], [record(1)], tmp_path)
    assert shown in line


def test_few_lines_are_told(tmp_path: Path) -> None:
    """However many figures have left their bands; a first run has no figures before."""
    now = [drifted(record(1, cell=f"a[{n}]"), 0.6) for n in range(40)]
    lines = told(now, [], tmp_path)
    assert lines[0] == "drift: a[0] heldout_loss 0.6 nats/token, band 0.48 to 0.55, as in 20 runs"
    assert lines[MOST:] == [f"and {40 - MOST} more figures left their bands"]


FLIPS: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"metrics": {}, "durations": {"total": 9.0}, "reason": "it broke"}, True),
    ({"versions": {"torch": "2.13.1"}}, False),
    ({"versions": {}}, False),
    ({"machine": {**EPYC, "commit": "ffffffffffff"}}, False),
    ({"machine": {**EPYC, "changes": "0123456789ab"}}, False),
    ({"machine": {**EPYC, "threads": 4}}, False),
    ({"machine": {**EPYC, "hardware": "Apple M4"}}, False),
    ({"spec_digest": "0000000000"}, False),
    ({"spec_digest": ""}, False),
    ({"overrides": {"train.seed": 3}}, False),
    ({"faults": ("a:b",)}, False),
]


@pytest.mark.parametrize(("fields", "is_flaky"), FLIPS)
@pytest.mark.parametrize("outcomes", [("passed", "failed"), ("failed", "passed")])
def test_a_flip_is_flaky_only_with_nothing_changed(
    fields: dict[str, Any], is_flaky: bool, outcomes: tuple[Outcome, Outcome], tmp_path: Path
) -> None:
    """Whichever way it flips; the history says so as well."""
    before, now = record(1, outcome=outcomes[0]), record(2, outcome=outcomes[1], **fields)
    lines = told([now], [before], tmp_path)
    assert (
        lines
        == [
            f"flaky: a[cpu] {outcomes[1]}, and {outcomes[0]} in run 20261101-080000-0000, "
            "with nothing changed that is on record"
        ]
        * is_flaky
    )
    text = render(story(past.threads([before, now])), 80, colour=False)
    assert ("flaky: its outcome flipped once though" in text) == is_flaky


@pytest.mark.parametrize(
    "outcomes",
    [("passed", "passed"), ("failed", "failed"), ("failed", "error"), ("passed", "unavailable")],
)
def test_what_is_no_flip(outcomes: tuple[Outcome, Outcome], tmp_path: Path) -> None:
    """Failing in another way is failing, and what couldn't run says nothing."""
    before, now = (record(day, outcome=one) for day, one in enumerate(outcomes, 1))
    assert told([now], [before], tmp_path) == []


def test_flips_are_counted_over_time() -> None:
    """In the history, with the last of them."""
    outcomes: list[Outcome] = ["passed", "passed", "failed", "passed", "error"]
    thread = past.threads([record(day, outcome=one) for day, one in enumerate(outcomes, 1)])
    text = " ".join(render(story(thread), 200, colour=False).split())
    assert "its outcome flipped 3 times though nothing recorded had changed" in text
    assert "last between 2026-11-04 08:00 and 2026-11-05 08:00" in text


def test_what_was_not_held_is_one_line(tmp_path: Path) -> None:
    """Where a cell has bands of other hardware; what has none is no news."""
    store = Store(tmp_path / "results.jsonl")
    band = Band(n=20, low=0.4, median=0.5, high=0.6)
    own = CellBands(runs="then", spec="abcdef0123", bands={"heldout_loss": band})
    alone: dict[str, Any] = {
        "environment": "cpu",
        "hardware": "Apple M4",
        "cores": 8,
        "false_alarms": 0.0,
    }
    mac = Baseline.model_construct(**alone, runs={}, cells={"a[cpu]": own, "b[cpu]": own})
    known = Baselines({mac.place: mac})
    now = [record(1), record(1, cell="b[cpu]"), record(1, cell="c[cpu]")]
    assert list(notes(now, store, known)) == [
        "cells not held against a baseline: 2 × no baseline for this hardware (AMD EPYC, 2 cores); "
        "to record: tunematrix baseline record -e cpu --seeds 20"
    ]
    relation = record(1, cell="r", arms=("a[cpu]", "b[cpu]"))
    assert list(notes([], store, known)) == list(notes([relation], store, known)) == []
