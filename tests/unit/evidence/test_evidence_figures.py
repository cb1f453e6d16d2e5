"""What a record keeps of a cell's evidence."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import pytest

from tunematrix.evidence.events import (
    Determinants,
    Evaluation,
    LoggedStep,
    LogitError,
    Memory,
    Parity,
    Phase,
    Started,
    Storage,
    Throughput,
)
from tunematrix.evidence.figures import (
    LONGEST_TAIL,
    MOST_LOSSES,
    conditions,
    durations,
    last_lines,
    loss_curve,
    metrics,
    versions,
)

if TYPE_CHECKING:
    from tests.unit.conftest import Run


def test_metrics_of_an_honest_run(run: Run) -> None:
    """Figure by name, units in the names; MB are 10^6 bytes."""
    assert metrics(run.evidence) == pytest.approx(
        {
            "gap_closed": 0.92,
            "stored_mb": 0.318088,
            "allocator_peak_mb": 112.0,
            "process_peak_mb": 64.0,
            "tokens_per_second": 2000.0,
            "logit_error": 0.166,
            "seconds": 14.0,
            "heldout_loss_before": 5.4,
            "heldout_loss": 0.8,
            "entropy_floor": 0.4,
            "logged_loss": run.evidence.all(LoggedStep)[-1].loss,
            "parity_gradients.q_proj": 0.5,
            "parity_gradients.up_proj": 0.25,
            "parity_trace.01": 8.5,
            "parity_trace.02": 5.8,
        }
    )


def test_metrics_that_were_not_measured_are_absent(run: Run) -> None:
    """They aren't 0; the time that a cell took is always known."""
    bare = run.without(Evaluation, Storage, Memory, Throughput, LogitError, Parity, LoggedStep)
    assert metrics(bare.evidence) == {"seconds": 14.0}


def test_metrics_of_a_diverged_run(run: Run) -> None:
    """nan is a figure, and a worse one than none; no division breaks on the way."""
    diverged = run.edited(Evaluation, 1, loss=math.nan).edited(Throughput, seconds=0.0)
    found = metrics(diverged.evidence)
    assert math.isnan(found["gap_closed"])
    assert math.isnan(found["tokens_per_second"])


def test_durations(run: Run) -> None:
    """Each phase, and the whole; a killed cell has at least that."""
    assert durations(run.evidence) == {"reference": 1.5, "train": 10.5, "total": 14.0}
    assert durations(run.without(Phase).evidence) == {"total": 14.0}


def test_conditions(run: Run) -> None:
    """What the cell's process and its backend reported; the backend has the last word."""
    run = run.recording(Started(1, {"cores": 64, "OMP_NUM_THREADS": None}, {"torch": "2.13.0"}))
    evidence = run.recording(Determinants({"threads": 4, "cores": 8})).evidence
    assert versions(evidence) == {"torch": "2.13.0"}
    assert conditions(evidence) == {
        "cores": 8,
        "threads": 4,
        "OMP_NUM_THREADS": None,
        "isolation": "forkserver",
        "memory_methods": {"process_peak": "VmHWM, cleared", "allocator_peak": "profiler"},
    }


def test_conditions_of_a_cell_that_never_started(run: Run) -> None:
    """How it was isolated is known even then."""
    evidence = run.without(Started, Determinants, Memory).evidence
    assert versions(evidence) == {}
    assert conditions(evidence) == {"isolation": "forkserver", "memory_methods": {}}


def test_the_curve_that_a_record_keeps(run: Run) -> None:
    """All of a short one; of a long one evenly spread points, the first and last among them."""
    bare = run.without(LoggedStep)
    short = bare.recording(LoggedStep(1, 3.0), LoggedStep(2, None), LoggedStep(3, math.inf))
    assert loss_curve(short.evidence) == ((1, 3.0), (3, math.inf))
    long = bare.recording(*(LoggedStep(step, 1 / step) for step in range(1, 5001)))
    curve = loss_curve(long.evidence)
    assert len(curve) == MOST_LOSSES
    assert (curve[0], curve[-1]) == ((1, 1.0), (5000, 1 / 5000))
    gaps = {after[0] - before[0] for before, after in itertools.pairwise(curve)}
    assert gaps <= {50, 51}


def test_a_step_that_was_logged_twice(run: Run) -> None:
    """A run that was resumed has taken it again; the curve has one loss for a step."""
    resumed = run.without(LoggedStep).recording(
        LoggedStep(1, 3.0), LoggedStep(2, 2.0), LoggedStep(2, 2.5)
    )
    assert loss_curve(resumed.evidence) == ((1, 3.0), (2, 2.5))


def test_the_end_of_stderr(run: Run) -> None:
    """The last lines, and of endless ones their last characters."""
    lines = [f"line {number}" for number in range(100)]
    many = run.leaving(stderr="\n".join([*lines, "", ""]))
    assert last_lines(many.evidence).splitlines() == lines[-20:]
    endless = run.leaving(stderr="x" * 10_000_000 + "the end")
    assert last_lines(endless.evidence).endswith("xthe end")
    assert len(last_lines(endless.evidence)) == LONGEST_TAIL
    bar = "".join(f"\r {done}%|###" for done in range(101))
    drawn = run.leaving(stderr=f"loading{bar}\n\r 0%|\r 9%|\r\nValueError: 7\n").evidence
    assert last_lines(drawn).splitlines() == [" 100%|###", " 9%|", "ValueError: 7"]
