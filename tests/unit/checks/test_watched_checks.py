"""What checks of watched training owe, where there is nothing to see, and what proves nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.watched import (
    Change,
    fields,
    with_records,
)

from tunematrix.evidence.events import LibraryLoaded
from tunematrix.probe.tunematrix_probe.records import (
    ProbeEnded,
    SeenBatch,
    SeenGradient,
    SeenLoss,
    SeenMoved,
    SeenScheduler,
    SeenStep,
    SeenUpdate,
    SwitchedOff,
)

if TYPE_CHECKING:
    from tests.unit.conftest import Run


def test_what_is_not_watched_is_not_judged(watching: Run) -> None:
    """The group is owed where it was asked for."""
    names = watching.configured(watch={}).verdicts()
    bare = replace(watching, config=watching.config.model_copy(update={"watch": None}))
    assert not [name for name in bare.verdicts() if name.startswith("watched")]
    assert [name for name in names if name.startswith("watched")]


def test_nothing_to_watch(watching: Run) -> None:
    """Each way in which there is nothing says what was seen instead."""
    none = watching.leaving(watched=())
    assert none.failed() == {"watched"}
    assert "no process of the command imported PyTorch" in none.verdicts()["watched"].message
    loaded = none.recording(LibraryLoaded("libtorch", loaded=True))
    assert "-I or -E" in loaded.verdicts()["watched"].message
    idle = with_records(watching, SeenStep, lambda _: None)
    assert (
        "train.py imported PyTorch and made 10 forward passes" in idle.verdicts()["watched"].message
    )


def test_what_was_switched_off(watching: Run) -> None:
    """What can't be looked into is told; a probe that fell over is a warning; neither decides."""
    (process,) = watching.evidence.watched
    honest = SwitchedOff("update", "Adafactor's formula isn't known")
    fallen = SwitchedOff("batch", "KeyError: 'x'", "batches.py:10", is_error=True)
    for record, outcome in ((honest, "passed"), (fallen, "warned")):
        seen = replace(process, records=(*process.records, record))
        verdict = watching.leaving(watched=(seen,)).verdicts()["watched"]
        assert verdict.outcome == outcome
        assert record.reason in verdict.message
    torn = watching.leaving(watched=(replace(process, unreadable=2),))
    assert torn.verdicts()["watched"].outcome == "warned"


# What stops being counted where a part falls over, as a record that would fail, and whose check.
FALLEN: dict[str, tuple[str, type[Any], Change]] = {
    "schedule": ("watched_schedule", SeenScheduler, fields(calls=0)),
    "zero": ("watched_zeroed", SeenStep, fields(kept=4, zeroed=0)),
    "clipping": ("watched_gradient", SeenGradient, fields(due=1.0)),
    "update": ("watched_update", SeenUpdate, fields(error=1.0)),
    "weights": ("watched_moved", SeenMoved, fields(moved=0)),
    "batch": ("watched_batches", SeenBatch, fields(digests=("0", "0"))),
    "models": ("watched_mode", SeenStep, fields(dropouts_off=2)),
    "loss": ("watched_labels", SeenLoss, fields(targets_next=0, targets_same=24)),
    "optimizer": ("watched_learning_rate", SeenStep, fields(learning_rates=(0.0,))),
}


@pytest.mark.parametrize("part", FALLEN)
def test_a_part_that_fell_over_proves_nothing(watching: Run, part: str) -> None:
    """What the probe didn't get to count is no error of the training."""
    name, kind, change = FALLEN[part]
    wrong = with_records(watching, kind, change)
    assert wrong.verdicts()[name].outcome != "passed"
    (process,) = wrong.evidence.watched
    off = SwitchedOff(part, "KeyError: 'x'", "file.py:10", is_error=True)
    fallen = wrong.leaving(watched=(replace(process, records=(*process.records, off)),))
    assert name not in fallen.verdicts()
    assert fallen.verdicts()["watched"].outcome == "warned"


def test_where_all_has_to_be_looked_at(watching: Run) -> None:
    """A probe that fell over fails then; what can't be looked into by its nature doesn't."""
    (process,) = watching.evidence.watched
    strict = watching.configured(watch={"strict": True})
    assert strict.failed() == set()
    for is_error, failed in ((False, set()), (True, {"watched"})):
        record = SwitchedOff("batch", "KeyError: 'x'", "batches.py:10", is_error=is_error)
        seen = replace(process, records=(*process.records, record))
        assert strict.leaving(watched=(seen,)).failed() == failed
        assert watching.leaving(watched=(seen,)).failed() == set()


def test_the_last_step_that_was_audited_is_told(watching: Run) -> None:
    """Where more follow; where it is the very last, nothing needs to be said."""
    assert watching.verdicts()["watched"].message == ""
    early = with_records(watching, SeenStep, lambda one: replace(one, audited=one.step < 2))
    assert early.verdicts()["watched"].message == "the last step that was audited is 2 of 5"


def test_a_run_that_failed_is_still_judged_by_what_was_seen(watching: Run) -> None:
    """A loop that raises in the middle, or is killed, has left evidence until then."""
    killed = with_records(watching, ProbeEnded, lambda _: None).ending(code=None, signal="SIGKILL")
    assert killed.failed() == {"exit"}
    assert "watched_gradient" in killed.verdicts()
    assert with_records(killed, SeenGradient, fields(scale=0.8)).failed() == {
        "exit",
        "watched_gradient",
    }


def test_the_device_that_is_asked_for(watching: Run) -> None:
    """As a spec or an option names it."""
    assert watching.configured(watch={"device": "cpu"}).failed() == set()
    asked = watching.configured(watch={"device": "cuda"})
    assert asked.failed() == {"watched_device"}
