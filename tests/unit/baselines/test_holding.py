from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.baselines.seeded import CELL, MACHINE, SMOKE, VERSIONS, baselines, one, with_metrics

from tunematrix.baselines.figures import HELD, check_of
from tunematrix.baselines.holding import against, band_of, unheld
from tunematrix.baselines.kept import Baselines
from tunematrix.baselines.model import MarginBands, place_of
from tunematrix.baselines.recording import BandWish, measure
from tunematrix.results.record import Record
from tunematrix.results.store import Store

VERIFIED = Path(__file__).parents[3] / "docs" / "verified"


def left(record: Record, known: Baselines) -> dict[str, str]:
    """What left its band, with the message."""
    held = against(record, known)
    return {check.name: check.message for check in held.checks if check.outcome != "passed"}


@pytest.mark.parametrize(
    ("cell", "seed", "figures", "words"),
    [
        (CELL, 0, {"heldout_loss": 1.15}, "15.0% above what it was under seed 0"),
        (CELL, 0, {"heldout_loss": 0.85}, "15.0% below what it was under seed 0"),
        (CELL, 0, {"logged_loss": 1.15}, "15.0% above what it was under seed 0"),
        ("rank-stabilised[cpu-lora-none]", 0, {"heldout_loss": 1.15}, "15.0% above what it was"),
        (CELL, 5, {"heldout_loss": 1.3}, "above the median of 20 runs"),
        (CELL, 0, {"process_peak_mb": 2.0}, "above the median of 20 runs"),
        ("full[mlx-full-none]", 3, {"process_peak_mb": 2.0}, "far above the median"),
        ("rank-stabilised[cpu-lora-bnb-nf4]", 0, {"stored_mb": 2.0}, "far above the median"),
        ("rank-stabilised[cpu-lora-bnb-nf4]", 0, {"logit_error": 1.5}, "above the median"),
        (CELL, 0, {"stored_mb": 1.01}, "1.0% above the median of 20 runs"),
        (CELL, 0, {"heldout_loss": math.nan}, "heldout_loss is nan"),
        (CELL, 0, {"process_peak_mb": math.inf}, "process_peak_mb is inf"),
    ],
)
def test_planted_drift_is_noticed(
    cell: str, seed: int, figures: dict[str, float], words: str
) -> None:
    """Though the hard bounds let it pass; only the figure that drifted is named."""
    record = one(cell, seed)
    drifted = with_metrics(record, **{k: record.metrics[k] * by for k, by in figures.items()})
    (found,) = left(drifted, baselines(cell)).items()
    assert found[0] == check_of(*figures)
    assert words in found[1]


def test_a_figure_that_is_missing_is_noticed() -> None:
    """Its meter may not run any more."""
    found = left(with_metrics(one(), process_peak_mb=None), baselines())
    assert "wasn't measured, and was in 20 runs" in found["baseline_process_peak_mb"]


def test_honest_runs_are_silent() -> None:
    """All that the smoke cells gave again, and first: under each seed, and without one."""
    known = baselines(*SMOKE)
    for cell, rows in SMOKE.items():
        for way in ("first", "again"):
            for seed in range(len(rows["stored_mb"].get(way, ()))):
                figures = {name: row[way][seed] for name, row in rows.items()}
                assert left(with_metrics(one(cell, seed), **figures), known) == {}
        assert left(one(cell, None), known) == {}


@pytest.mark.parametrize("file", sorted(path.name for path in VERIFIED.glob("*.jsonl")))
def test_verified_runs_are_silent(file: str) -> None:
    """Every cell that has run on another machine, against what it gave itself."""
    records = [
        replace(
            record,
            machine={**record.machine, "commit": "0123456789ab"},
            spec_digest=record.spec_digest or "unknown",
        )
        for record in Store(VERIFIED / file).read()
    ]
    wish = BandWish(MarginBands(kind="margin", share=0.05), records[0].environment)
    (found,) = measure(records, wish)
    known = Baselines({found.place: found})
    passed = [record for record in records if record.outcome == "passed" and not record.arms]
    held = [against(record, known) for record in passed]
    assert (
        sum(
            len(after.checks) - len(before.checks)
            for before, after in zip(passed, held, strict=True)
        )
        > 100
    )
    assert [left(record, known) for record in passed] == [{}] * len(passed)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"machine": {**MACHINE, "hardware": "Apple M4"}}, "no baseline for this hardware (Apple"),
        ({"machine": {**MACHINE, "cpus": 8}}, "no baseline for this hardware (AMD EPYC, 8 cores)"),
        ({"machine": {**MACHINE, "gpu": "NVIDIA H200"}}, "no baseline for this hardware (NVIDIA"),
        ({"machine": {**MACHINE, "cpu_capability": "AVX512"}}, "capability AVX2 → AVX512"),
        ({"machine": {**MACHINE, "isolation": "spawn"}}, "isolation forkserver → spawn"),
        ({"machine": {**MACHINE, "memory_methods": {"process_peak": "polled"}}}, "read by VmHWM"),
        ({"versions": {**VERSIONS, "torch": "2.14.0"}}, "torch 2.13.0+cpu → 2.14.0"),
        ({"versions": {**VERSIONS, "peft": "0.22.0"}}, "peft 0.21.2 → 0.22.0"),
        ({"spec_digest": "0000000000000000"}, "the spec has changed"),
    ],
)
def test_what_is_keyed_otherwise_is_not_held(fields: dict[str, Any], why: str) -> None:
    """However far its figures are off; the run says so in a line."""
    record = with_metrics(one(**fields), heldout_loss=100.0)
    assert against(record, baselines()) == record
    ((said, count),) = unheld([record], baselines()).items()
    assert why in said and count == 1
    assert band_of(record, baselines()) == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"versions": {**VERSIONS, "torch": "2.13.1+cpu"}},
        {"versions": {**VERSIONS, "numpy": "2.5.0", "rich": "15.0.0"}},
        {"machine": {**MACHINE, "commit": "ffffffffffff", "changes": "0123456789ab"}},
        {"machine": {**MACHINE, "python": "3.12.1", "platform": "Linux-7"}},
        {"run_dir": "elsewhere", "durations": {"total": 1000.0}},
    ],
)
def test_what_does_not_matter_is_held_all_the_same(fields: dict[str, Any]) -> None:
    """Or code that changed could never be seen to drift."""
    assert unheld([one(**fields)], baselines()) == {}
    assert left(with_metrics(one(**fields), heldout_loss=100.0), baselines())


def test_cells_that_nobody_recorded() -> None:
    """They are none of the baseline's business, here and on other hardware."""
    for machine in (MACHINE, {**MACHINE, "cpus": 8}):
        record = with_metrics(one(base_id="other[cpu]", machine=machine), heldout_loss=100.0)
        assert against(record, baselines()) == record
        assert unheld([record], baselines()) == {}


def test_only_passes_are_held() -> None:
    """What failed, or was made to differ, has other things to say; a fault is to be noticed."""
    assert left(with_metrics(one(faults=("a:b",)), heldout_loss=100.0), baselines())
    failed, made_to_differ = one(outcome="failed"), one(planted="scale")
    for honest in (failed, made_to_differ):
        record = with_metrics(honest, heldout_loss=100.0)
        assert against(record, baselines()) == record
        assert unheld([record], baselines()) == {}


def test_strict_baselines_fail_their_cells() -> None:
    """With a reason as any check's; what is inside passes."""
    known = baselines(strict=True)
    failed = against(with_metrics(one(), heldout_loss=100.0, logged_loss=50.0), known)
    assert failed.outcome == "failed"
    assert failed.reason.startswith("baseline_heldout_loss: heldout_loss is far above")
    assert failed.reason.endswith("(and 1 more)")
    assert against(one(), known).outcome == "passed"


def test_a_project_without_baselines_is_left_alone() -> None:
    """Nobody asks for one there."""
    assert against(one(), Baselines()) == one()
    assert unheld([one()], Baselines()) == {}


def test_bands_for_views() -> None:
    """What a view draws is what the verdict was by; under the recorded seed it is narrower."""
    cell = "rank-stabilised[cpu-lora-none]"
    known, loss = baselines(cell), SMOKE[cell]["heldout_loss"]["first"][0]
    drawn = band_of(one(cell), known)
    assert set(drawn) == set(SMOKE[cell]) <= set(HELD)
    assert drawn["heldout_loss"] == pytest.approx((0.9 * loss, 1.1 * loss))
    low, high = band_of(one(cell, 4), known)["heldout_loss"]
    assert low < 0.9 * loss and high > 1.1 * loss
    check = next(c for c in against(one(cell), known).checks if c.name == "baseline_stored_mb")
    assert str(check.bound).endswith("as in 20 runs") and check.unit == "MB"
    assert place_of(one()).file == "amd-epyc-2-cores.yaml"
