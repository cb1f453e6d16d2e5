from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from tunematrix.evidence.events import (
    AdapterDropout,
    Attached,
    Continuity,
    Draws,
    OptimizerStep,
    TrainedDtypes,
)

if TYPE_CHECKING:
    from tests.unit.conftest import Run

FULL, HALF = ("float32",), ("bfloat16",)
INPUTS = 1_000_000
DEVIATION = 300
"""Of the count of zeros among so many inputs, a tenth of which are dropped."""


def _dropping(run: Run, configured: float, zeroed: int, inputs: int = INPUTS) -> Run:
    method = {"implementation": {**run.config.method.implementation, "dropout": configured}}
    return run.configured(method=method).recording(AdapterDropout(inputs, zeroed))


@pytest.mark.parametrize("off", [-5, 0, 5])
def test_dropout_within_chance(run: Run, off: int) -> None:
    """A share that chance explains passes."""
    assert not _dropping(run, 0.1, INPUTS // 10 + off * DEVIATION).failed() & {"adapter_dropout"}


@pytest.mark.parametrize("off", [-7, 7])
def test_dropout_beyond_chance(run: Run, off: int) -> None:
    """The room shrinks with the count: a fiftieth more or less of the dropped is too much."""
    assert "adapter_dropout" in _dropping(run, 0.1, INPUTS // 10 + off * DEVIATION).failed()


def test_no_dropout_is_exact(run: Run) -> None:
    """Where none is configured there is no room at all."""
    assert "adapter_dropout" not in _dropping(run, 0.0, 0).failed()
    assert "adapter_dropout" in _dropping(run, 0.0, 1).failed()


def test_dropout_that_nobody_measured(run: Run) -> None:
    """Neither no reading nor an empty one passes; a method without dropout isn't asked."""
    assert "adapter_dropout" in run.without(AdapterDropout).failed()
    assert "adapter_dropout" in _dropping(run, 0.1, 0, inputs=0).failed()
    full = run.without(AdapterDropout).configured(method={"implementation": {}})
    assert "adapter_dropout" not in full.verdicts()


@pytest.mark.parametrize(
    ("seen", "odd"),
    [
        (TrainedDtypes(HALF, FULL, FULL), "weights bfloat16"),
        (TrainedDtypes(FULL, HALF, FULL), "gradients bfloat16"),
        (TrainedDtypes(FULL, FULL, HALF), "moments bfloat16"),
        (TrainedDtypes(("bfloat16", "float32"), FULL, FULL), "weights bfloat16, float32"),
    ],
)
def test_another_dtype_anywhere(run: Run, seen: TrainedDtypes, odd: str) -> None:
    """One of the three is enough, and it is named."""
    changed = run.recording(seen)
    assert changed.failed() == {"trained_dtypes"}
    assert changed.verdicts()["trained_dtypes"].measured == odd


def test_dtypes_that_a_quantizer_promises(run: Run) -> None:
    """They take the precision's place for the methods it names, and bind them just as strictly."""
    declared = run.configured(quantizer={"trained": {"lora": ["bfloat16"]}})
    assert "trained_dtypes" in declared.failed()
    assert not declared.recording(TrainedDtypes(HALF, HALF, HALF)).failed()
    mixed = run.configured(quantizer={"trained": {"lora": ["bfloat16", "float32"]}})
    assert "trained_dtypes" in mixed.recording(TrainedDtypes(HALF, HALF, HALF)).failed()


def test_dtypes_that_nobody_saw(run: Run) -> None:
    """What has to be there is missed; gradients out of sight and an SGD without moments are not."""
    assert "trained_dtypes" in run.without(TrainedDtypes).failed()
    for seen in (TrainedDtypes((), FULL, FULL), TrainedDtypes(FULL, FULL, ())):
        assert "trained_dtypes" in run.recording(seen).failed()
    unseen = run.recording(TrainedDtypes(FULL, (), FULL))
    assert "trained_dtypes" in unseen.failed()
    hidden = unseen.configured(backend={"hides": ["gradients"]})
    assert "trained_dtypes" not in hidden.failed()
    plain = run.configured(optimizer={"name": "sgd", "momentum": 0.0})
    assert "trained_dtypes" not in plain.recording(TrainedDtypes(FULL, FULL, ())).failed()


@pytest.mark.parametrize("share", [0.49, 0.0, math.nan])
def test_a_step_that_rounds_updates_away(run: Run, share: float) -> None:
    """The worst step decides, wherever it stands."""
    for position in range(4):
        assert run.edited(OptimizerStep, position, moved=share).failed() == {"moved_share"}


def test_steps_without_a_share(run: Run) -> None:
    """One that was looked at is enough, none is not."""
    steps = run.evidence.all(OptimizerStep)
    bare = [OptimizerStep(s.step, s.learning_rates, s.gradient_norm, s.deviation) for s in steps]
    assert "moved_share" in run.recording(*bare).failed()


def test_continuity_is_owed_by_those_who_show_their_steps(run: Run) -> None:
    """Every link has to be there; a backend may say that nobody sees them."""
    assert run.edited(Continuity, links=4).verdicts()["continuity"].measured is None
    assert "continuity" in run.without(Continuity).failed()
    hidden = run.configured(backend={"hides": ["between steps"]}).without(Continuity)
    assert "continuity" not in hidden.verdicts()


def test_masks_that_nobody_compared(run: Run) -> None:
    """They are missed, unless a row goes through its layer twice, or nobody can see them."""
    seen = run.edited(AdapterDropout, compared=0, factor=None)
    assert {"dropout_factor", "dropout_independent"} <= seen.failed()
    hidden = seen.configured(backend={"hides": ["masks"]})
    assert not {"dropout_factor", "dropout_independent"} & set(hidden.verdicts())
    alone = seen.configured(train={"batch_size": 1, "gradient_checkpointing": True})
    assert "dropout_independent" not in alone.verdicts()


def test_a_seed_that_nobody_saw(run: Run) -> None:
    """It is missed, steps or no steps."""
    assert "seed" in run.without(Draws).failed()
    assert "seed" in run.without(Draws, OptimizerStep).failed()
    assert "seed" not in run.without(Draws).configured(backend={"hides": ["seed"]}).verdicts()


def test_adapters_that_start_alike(run: Run) -> None:
    """Each has its rank, and all of them together have no more."""
    alike = run.edited(Attached, apart=1e-8)
    assert alike.failed() == {"adapter_rank"}
    assert "before training" in alike.verdicts()["adapter_rank"].message
    assert run.edited(Attached, apart=math.nan).failed() == {"adapter_rank"}
    assert run.edited(Attached, apart=None).failed() == set()
