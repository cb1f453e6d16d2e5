from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.baselines.seeded import CELL, MACHINE, TOLERANCE, VERSIONS, one, seeds, with_metrics

from tunematrix.baselines.comparing import band_changes
from tunematrix.baselines.kept import read_baselines, write_baseline
from tunematrix.baselines.model import Baseline, MarginBands
from tunematrix.baselines.recording import BandWish, applied_cells, blind, measure, merged
from tunematrix.errors import BadInput, NothingTested
from tunematrix.results.record import Record

WISH = BandWish(TOLERANCE, "cpu")
MARGIN = BandWish(MarginBands(kind="margin", share=0.25), "cpu")
QUANTIZED = "rank-stabilised[cpu-lora-bnb-nf4]"


def recorded(records: Sequence[Record], wish: BandWish = WISH) -> Baseline:
    """The one baseline of some runs."""
    (found,) = measure(records, wish)
    return found


def last(**fields: Any) -> Callable[[], list[Record]]:
    """Runs under seeds, the last of which is otherwise."""
    return lambda: [*seeds(count=19), one(seed=19, **fields)]


def changed(**figures: float | None) -> Callable[[], list[Record]]:
    """Runs under seeds, the last of which gave other figures."""
    return lambda: [*seeds(count=19), with_metrics(one(seed=19), **figures)]


def test_what_a_baseline_says(tmp_path: Path) -> None:
    """All that its bands depend on; and it is read as it was written."""
    found = recorded([*seeds(), *seeds(QUANTIZED)])
    assert (found.hardware, found.cores, list(found.cells)) == ("AMD EPYC", 2, [CELL, QUANTIZED])
    assert found.false_alarms == 0.01
    (runs,) = found.runs.values()
    assert (runs.recorded, runs.commit, runs.bands) == ("2026-11-29", "0123456789ab", TOLERANCE)
    assert "numpy" not in runs.conditions.versions and runs.conditions.versions["peft"] == "0.21.2"
    band = found.cells[CELL].bands["heldout_loss"]
    assert (band.n, band.unit, band.seed) == (20, "nats/token", 0)
    assert (band.low, band.median) == pytest.approx((0.526, 0.5874), abs=0.001)
    path = write_baseline(found, tmp_path)
    assert path == tmp_path / "baselines/cpu/amd-epyc-2-cores.yaml"
    text = path.read_text()
    assert "tunematrix baseline record -e cpu" in text and len(text) < 4000
    assert read_baselines([tmp_path], "cpu").known == {found.place: found}
    assert read_baselines([tmp_path], "cuda").known == {}


@pytest.mark.parametrize(
    ("records", "why"),
    [
        (lambda: seeds(count=19), "was run under 19 seeds; 20 are the least"),
        (lambda: [one(seed=None)] * 20, "its runs have no seed of their own"),
        (lambda: [*seeds(), one(seed=3)], "21 runs have 20 seeds"),
        (last(outcome="failed", reason="gap"), "full[cpu-full-none]@19: failed: gap"),
        (last(outcome="error", reason="lost"), "@19: error: lost"),
        (last(outcome="known_failure"), "@19: known_failure"),
        (last(faults=("faults.py:scale",)), "faults.py:scale was planted in it"),
        (last(planted="scale"), "scale was planted in it"),
        (last(versions={**VERSIONS, "torch": "2.14.0"}), "its runs differ in torch 2.13.0+cpu →"),
        (last(machine={**MACHINE, "commit": "f" * 12}), "differ in commit 0123456789ab → fff"),
        (last(machine={**MACHINE, "isolation": "spawn"}), "differ in isolation forkserver →"),
        (last(machine={**MACHINE, "changes": "1"}), "its code was not as committed"),
        (last(machine={k: MACHINE[k] for k in MACHINE if k != "commit"}), "its code has no commit"),
        (last(spec_digest="other"), "its runs differ in the spec"),
        (last(spec_digest=""), "doesn't say by which spec it ran"),
        (changed(heldout_loss=math.nan), "heldout_loss of an honest run is nan"),
        (changed(process_peak_mb=math.inf), "process_peak_mb of an honest run is inf"),
        (changed(heldout_loss=None), "heldout_loss was measured in 19 of 20 runs"),
    ],
)
def test_runs_that_are_refused(records: Callable[[], list[Record]], why: str) -> None:
    """A band made of them would say nothing, or let everything pass."""
    with pytest.raises(BadInput) as caught:
        measure(records(), WISH)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "records",
    [
        [],
        [one(arms=("x", "y"))],
        seeds(outcome="known_failure"),
        seeds(outcome="unavailable", metrics={}),
        seeds(metrics={"seconds": 1.0}),
        [replace(record, environment="mlx") for record in seeds()],
    ],
)
def test_nothing_to_record(records: list[Record]) -> None:
    """Relations have tolerances, and cells that can't run or are known to fail have no bands."""
    with pytest.raises(NothingTested):
        measure(records, WISH)


def test_what_could_not_run_does_not_stand_in_the_way() -> None:
    """Beside a cell that ran."""
    others = seeds(QUANTIZED, outcome="unavailable", metrics={}, machine={}, versions={})
    assert list(recorded([*others, *seeds()]).cells) == [CELL]


def test_a_margin_needs_one_run() -> None:
    """And says that it is a margin, which states no rate of false alarms."""
    found = recorded([one(seed=None)], MARGIN)
    band, loss = found.cells[CELL].bands["heldout_loss"], one().metrics["heldout_loss"]
    assert (band.low, band.high) == pytest.approx((0.75 * loss, 1.25 * loss), rel=1e-4)
    assert (band.n, band.seed, found.false_alarms) == (1, None, 0)
    assert next(iter(found.runs.values())).bands == MARGIN.bands
    with pytest.raises(BadInput):
        measure([one(seed=None, outcome="failed")], MARGIN)


def test_only_what_is_named_is_replaced() -> None:
    """What others were measured on stays beside it, as long as a cell names it."""
    old = recorded([*seeds(), *seeds(QUANTIZED)])
    machine = {**MACHINE, "commit": "fedcba987654"}
    shifted = [with_metrics(one(), heldout_loss=0.7 + n / 1000) for n in range(20)]
    again = [replace(r, seed=n, machine=machine) for n, r in enumerate(shifted)]
    both = [*again, *seeds(QUANTIZED, machine=machine)]
    new = recorded(both, BandWish(TOLERANCE, "cpu", frozenset({CELL})))
    whole = merged(old, new)
    assert whole.cells[QUANTIZED] == old.cells[QUANTIZED]
    assert whole.cells[CELL].bands["heldout_loss"].median == pytest.approx(0.7095)
    assert [one.commit for one in whole.runs.values()] == ["0123456789ab", "fedcba987654"]
    assert [one.commit for one in merged(whole, recorded(both)).runs.values()] == ["fedcba987654"]
    assert merged(None, new) == new


def test_a_margin_beside_other_bands_of_the_same_commit() -> None:
    """What the others were measured on keeps its name, and says what it said."""
    old = recorded([*seeds(), *seeds(QUANTIZED)])
    whole = merged(old, recorded([one(seed=None)], MARGIN))
    assert whole.runs[whole.cells[QUANTIZED].runs].bands == TOLERANCE
    assert whole.runs[whole.cells[CELL].runs].bands == MARGIN.bands
    assert whole.false_alarms == 0.005


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, {CELL}),
        ({"machine": {**MACHINE, "commit": "fedcba987654"}}, {CELL}),
        ({"versions": {**VERSIONS, "peft": "0.22.0"}}, set()),
        ({"spec_digest": "other"}, set()),
    ],
)
def test_bands_that_apply_are_not_recorded_again(fields: dict[str, Any], kept: set[str]) -> None:
    """Those that don't are replaced without being named."""
    old, new = recorded(seeds()), recorded([*seeds(**fields), *seeds(QUANTIZED)])
    assert applied_cells(old, new) == kept and applied_cells(None, new) == frozenset()
    whole = merged(old, new.without(kept))
    assert set(whole.cells) == {CELL, QUANTIZED} and whole.false_alarms == 0.01
    assert (whole.cells[CELL] == old.cells[CELL]) == bool(kept)


def test_hardware_has_a_file_each() -> None:
    """What ran elsewhere has a baseline of its own."""
    elsewhere = seeds(machine={**MACHINE, "gpu": "NVIDIA H200"})
    found = measure([*seeds(), *elsewhere], WISH)
    assert [one.place.file for one in found] == [
        "amd-epyc-2-cores.yaml",
        "nvidia-h200-2-cores.yaml",
    ]


@pytest.mark.parametrize(
    ("factor", "spread", "changes"),
    [
        (1.0, 1.0, {}),
        (1.3, 1.0, {"heldout_loss": "moved"}),
        (1.0, 0.0, {"heldout_loss": "constant"}),
        (1.0, 3.0, {"heldout_loss": "wider"}),
        (1.0, 0.3, {"heldout_loss": "narrower"}),
    ],
)
def test_what_recording_again_would_change(
    factor: float, spread: float, changes: dict[str, str]
) -> None:
    """A median that moved, a figure that stopped varying, and bands of another width."""
    old = recorded(seeds())
    middle = old.cells[CELL].bands["heldout_loss"].median
    losses = [middle + (run.metrics["heldout_loss"] - middle) * spread for run in seeds()]
    again = [
        with_metrics(run, heldout_loss=loss * factor)
        for run, loss in zip(seeds(), losses, strict=True)
    ]
    found = {one.metric: one.change for one in band_changes(old, recorded(again))}
    assert found == changes


def test_bands_that_come_and_go() -> None:
    """A cell of which there are no new runs isn't told."""
    old = recorded([*seeds(), *seeds(QUANTIZED)])
    less = recorded([with_metrics(run, heldout_loss=None) for run in seeds()])
    (gone,) = band_changes(old, less)
    assert (gone.change, gone.new, gone.to_json()["new"]) == ("gone", None, None)
    assert {one.change for one in band_changes(None, less)} == {"new"}


def test_a_band_that_sees_too_little_is_named() -> None:
    """A figure that varies as much can't be held."""
    wild = [with_metrics(run, logged_loss=1.5**n) for n, run in enumerate(seeds())]
    assert list(blind(recorded(wild))) == [(CELL, "logged_loss")]
    assert list(blind(recorded(seeds(QUANTIZED)))) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("cores: 2", "cores: two", "cores: expected a whole number, got 'two'"),
        ("n: 20", "n: 0", "n: expected at least 1, got 0; raise it"),
        ("low:", "lwo:", "lwo: is not a known key; did you mean low?"),
        ("runs: 2026-11-29 0123456789ab", "runs: others", "there are no runs others in this file"),
        ("kind: tolerance", "kind: guess", "kind"),
        ("coverage: 0.999", "coverage: 1.5", "coverage: "),
        ("low: 0.", "low: 9.", "low, median and high aren't in this order"),
        ("environment: cpu", "environment: mlx", "belongs in"),
    ],
)
def test_a_malformed_file(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """It is refused before anything runs, with file and line."""
    path = write_baseline(recorded(seeds()), tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(BadInput) as caught:
        read_baselines([tmp_path], "cpu")
    assert path.name in str(caught.value) and expected in str(caught.value)
