from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from tunematrix.evidence.events import Memory, Storage, Throughput
from tunematrix.evidence.figures import conditions, memory_bytes, tokens_per_second

if TYPE_CHECKING:
    from tests.unit.conftest import Run


def _sized(run: Run, measure: str, size: int) -> Run:
    if measure == "stored":
        return run.edited(Storage, total_bytes=size)
    return run.recording(Memory(measure, size, "by hand"))


@pytest.mark.parametrize("measure", ["stored", "allocator_peak", "process_peak"])
def test_memory_at_its_bounds(run: Run, measure: str) -> None:
    """MB are 10^6 bytes; the bounds themselves pass, a byte beyond fails, and so does nothing."""
    bounded = run.asked(memory={f"{measure}_mb": {"min": 1.0, "max": 2.0}})
    name = f"memory_{measure}"
    assert set(bounded.verdicts()) & {"memory_stored", "memory_process_peak"} <= {name}
    for size, passes in (
        (1_000_000, True),
        (2_000_000, True),
        (999_999, False),
        (2_000_001, False),
        (0, False),
    ):
        assert (name not in _sized(bounded, measure, size).failed()) is passes, size


@pytest.mark.parametrize("measure", ["stored", "allocator_peak", "process_peak"])
def test_a_meter_that_saw_no_byte_is_no_meter(run: Run, measure: str) -> None:
    """0 bytes would meet every maximum."""
    bounded = run.asked(memory={f"{measure}_mb": {"max": 2.0}})
    verdict = _sized(bounded, measure, 0).verdicts()[f"memory_{measure}"]
    assert (verdict.outcome, verdict.measured) == ("failed", None)
    assert f"no reading of the {measure.replace('_', ' ')}" in verdict.message


def test_memory_without_bounds_is_not_judged(run: Run) -> None:
    """Neither with another measure's bound, nor with none."""
    one = run.asked(memory={"stored_mb": {"max": 2.0}})
    assert "memory_process_peak" not in one.verdicts()
    none = run.asked(memory=None)
    assert not {name for name in none.verdicts() if name.startswith("memory_")}


def test_the_last_measurement_of_a_kind_counts(run: Run) -> None:
    """Each measure is looked up by its name, the last one of several."""
    peaks = (Memory("process_peak", 1, "a"), Memory("allocator_peak", 2, "b"))
    evidence = run.recording(*peaks, Memory("process_peak", 3, "c")).evidence
    assert memory_bytes(evidence, "process_peak") == 3
    assert memory_bytes(evidence, "allocator_peak") == 2
    assert memory_bytes(run.evidence, "stored") == 318_088
    assert memory_bytes(run.without(Storage, Memory).evidence, "stored") is None
    assert memory_bytes(run.without(Storage, Memory).evidence, "process_peak") is None
    methods = conditions(evidence)["memory_methods"]
    assert methods == {"process_peak": "c", "allocator_peak": "b"}


@pytest.mark.parametrize(
    ("tokens", "seconds", "passes"),
    [(10_000, 10.0, True), (9_999, 10.0, False), (10_000, math.nan, False), (0, 1.0, False)],
)
def test_throughput_at_its_bound(run: Run, tokens: int, seconds: float, passes: bool) -> None:
    """1000 tokens per second are 1000 tokens per second."""
    found = run.recording(Throughput(tokens, seconds)).failed()
    assert ("throughput" not in found) is passes


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan])
def test_training_that_took_no_time(run: Run, seconds: float) -> None:
    """It isn't infinitely fast; it wasn't measured."""
    instant = run.recording(Throughput(10_000, seconds))
    rate = tokens_per_second(instant.evidence)
    assert rate is not None and math.isnan(rate)
    assert instant.failed() == {"throughput"}


def test_throughput_without_a_bound_is_not_judged(run: Run) -> None:
    """The figure is a metric all the same."""
    assert "throughput" not in run.asked(throughput=None).verdicts()
    assert tokens_per_second(run.evidence) == 2000.0
    assert tokens_per_second(run.edited(Throughput, seconds=0.5).evidence) == 40_000.0
    assert tokens_per_second(run.without(Throughput).evidence) is None
