"""What the checks of steps make of gradients, norms and updates."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from tunematrix.evidence.events import Compute, LoggedStep, OptimizerStep

if TYPE_CHECKING:
    from tests.unit.conftest import Run


@pytest.mark.parametrize(
    ("check", "dtype", "share"),
    [
        ("optimizer_update", "float32", 5e-4),
        ("optimizer_update", "bfloat16", 0.1),
        ("optimizer_update", "float16", 0.1),
        ("clipping", "float32", 1e-4),
        ("clipping", "bfloat16", 1e-2),
        ("clipping", "float16", 2e-3),
    ],
)
def test_tolerance_by_dtype_of_what_is_trained(
    run: Run, check: str, dtype: str, share: float
) -> None:
    """Half precision rounds; a hundredth less passes, a hundredth more fails."""
    trained = run.edited(Compute, trainable=(dtype,))
    for factor, passes in ((0.99, True), (1.01, False)):
        fields = (
            {"deviation": factor * share}
            if check == "optimizer_update"
            else {"gradient_norm": 1 + factor * share}
        )
        changed = trained.edited(OptimizerStep, 0, **fields)
        assert (check not in changed.failed()) is passes


def test_updates_of_no_known_dtype(run: Run) -> None:
    """Nothing is tolerated then, not even rounding, and nothing breaks."""
    for dtypes in ((), ("float8",)):
        unknown = run.edited(Compute, trainable=dtypes)
        assert unknown.edited(OptimizerStep, 0, gradient_norm=1.0000001).failed() >= {
            "optimizer_update",
            "clipping",
        }


def test_steps_that_were_not_audited(run: Run) -> None:
    """If none was, nothing vouches for the update."""
    for position in (0, 1):
        run = run.edited(OptimizerStep, position, deviation=None)
    assert run.verdicts()["optimizer_update"].measured is None
    assert run.failed() == {"optimizer_update"}


@pytest.mark.parametrize(
    ("dtype", "share"), [("float32", 1e-4), ("bfloat16", 0.1), ("float16", 2e-2)]
)
def test_recomputed_gradients_by_dtype(run: Run, dtype: str, share: float) -> None:
    """The arithmetic's dtype says how well a gradient can be known; so does the parameters'."""
    rounded = run.edited(Compute, products=(dtype,))
    for factor, passes in ((0.99, True), (1.01, False)):
        changed = rounded.edited(OptimizerStep, 1, gradient_error=factor * share)
        assert ("gradient" not in changed.failed()) is passes


def test_gradients_that_were_neither_seen_nor_recomputed(run: Run) -> None:
    """Where a trainer keeps them to itself and no meter took them again, nothing vouches."""
    hidden = without_gradients(run)
    assert hidden.edited(OptimizerStep, 0, gradient_error=math.nan).failed() == {"gradient"}
    for position in range(4):
        hidden = hidden.edited(OptimizerStep, position, gradient_error=None)
    assert hidden.verdicts()["gradient"].measured is None
    assert hidden.failed() == {"gradient"}


def without_gradients(run: Run) -> Run:
    """Return a run whose trainer shows no gradients, as mlx-lm's; a meter took them again."""
    hidden = run.configured(train={"max_grad_norm": 0.0}, backend={"max_grad_norm": 0.0})
    own = {"gradient_norm": None, "gradient_error": 1e-6, "expected_norm": None}
    for position in range(4):
        hidden = hidden.edited(OptimizerStep, position, **own)
    return hidden


@pytest.mark.parametrize(
    ("products", "trained", "share"),
    [
        ("float32", "float32", 1e-4),
        ("bfloat16", "float32", 6e-3),
        ("bfloat16", "bfloat16", 1e-2),
        ("float16", "float32", 2e-3),
    ],
)
def test_norms_of_recomputed_gradients_by_dtype(
    run: Run, products: str, trained: str, share: float
) -> None:
    """As it was logged and as the optimizer got it: where one is cut, only the other shows."""
    rounded = run.edited(Compute, products=(products,), trainable=(trained,))
    for factor, passes in ((0.99, True), (1.01, False)):
        logged = rounded.edited(LoggedStep, 0, gradient_norm=3.0 * (1 + factor * share))
        assert ("gradient" not in logged.failed()) is passes
        got = rounded.edited(OptimizerStep, 0, gradient_norm=1 - factor * share)
        assert ("gradient" not in got.failed()) is passes


def test_a_message_about_a_gradient_names_only_what_is_off(run: Run) -> None:
    """The norm where only that is, with a figure of its own; else the tensor."""
    norm = run.edited(OptimizerStep, 0, gradient_norm=0.99).verdicts()["gradient"]
    assert "norm, before or after clipping, differs from that of its loss by 1%;" in norm.message
    assert "of the largest" not in norm.message
    tensor = run.edited(OptimizerStep, 1, gradient_error=0.15).verdicts()["gradient"]
    assert "by 15% of the largest;" in tensor.message


def test_a_gradient_cut_too_short(run: Run) -> None:
    """Another limit than the configured one shows, though no norm exceeds anything."""
    verdict = run.edited(OptimizerStep, 0, gradient_norm=0.1).verdicts()["clipping"]
    assert (verdict.outcome, verdict.measured) == ("failed", 0.1)
    assert "where 1 was due" in verdict.message


def test_a_gradient_scaled_after_it_was_logged(run: Run) -> None:
    """Below the limit the optimizer has to get exactly what was there."""
    assert run.edited(OptimizerStep, 2, gradient_norm=0.808).failed() == {"clipping"}


def test_unclipped_gradients(run: Run) -> None:
    """With clipping off, the first two gradients must arrive whole."""
    unclipped = run.configured(train={"max_grad_norm": 0})
    assert unclipped.failed() == {"clipping", "gradient"}
    whole = unclipped.edited(OptimizerStep, 0, gradient_norm=3.0)
    whole = whole.edited(OptimizerStep, 1, gradient_norm=2.0)
    assert whole.failed() == set()
    short = whole.edited(OptimizerStep, 1, gradient_norm=1.98)
    assert short.failed() == {"clipping", "gradient"}


def test_steps_that_were_not_logged_have_the_limit_alone(run: Run) -> None:
    """With every second step logged, a norm over the limit still shows in the others."""
    logged = run.evidence.all(LoggedStep)
    every_other = run.recording(logged[1], logged[3])
    assert "clipping" not in every_other.failed()
    assert "clipping" in every_other.edited(OptimizerStep, 0, gradient_norm=1.1).failed()


def test_gradient_norms_that_were_never_logged(run: Run) -> None:
    """What came in isn't known, so what went out proves nothing."""
    for limit in (1.0, 0):
        blind = run.configured(train={"max_grad_norm": limit})
        for position in range(4):
            blind = blind.edited(LoggedStep, position, gradient_norm=None)
        assert blind.verdicts()["clipping"].measured is None
        assert "clipping" in blind.failed()


def test_a_gradient_of_nothing(run: Run) -> None:
    """A norm of exactly 0, logged and got, is no gradient that was passed on rightly."""
    none = run.edited(OptimizerStep, 3, gradient_norm=0.0).edited(LoggedStep, 3, gradient_norm=0.0)
    assert none.failed() == {"clipping"}
    assert none.verdicts()["clipping"].measured == 0.0


def test_gradients_of_a_large_model(run: Run) -> None:
    """Where a few tensors are followed, their scale is held against what clipping leaves."""
    for position, due in enumerate((1 / 3, 0.5, 1.0, 1.0)):
        step = {"expected_norm": None, "gradient_error": 0.0, "gradient_factor": due}
        run = run.edited(OptimizerStep, position, **step)
    assert run.failed() == set()
    verdict = run.edited(OptimizerStep, 2, gradient_factor=0.25).verdicts()["gradient"]
    assert (verdict.outcome, verdict.measured, verdict.unit) == ("failed", 0.75, "of the norm")
    assert "gradient" in run.edited(OptimizerStep, 0, gradient_factor=1.0).failed()
    assert "gradient" in run.edited(OptimizerStep, 0, gradient_factor=math.nan).failed()


def test_the_scale_of_what_was_not_logged(run: Run) -> None:
    """A norm below the limit was not cut; of one at the limit, nobody can say by how much."""
    for position in range(4):
        run = run.edited(OptimizerStep, position, expected_norm=None, gradient_error=0.0)
    run = run.recording(run.evidence.all(LoggedStep)[3])
    short = {"gradient_norm": 0.5, "gradient_factor": 0.25}
    assert "gradient" in run.edited(OptimizerStep, 1, **short).failed()
    cut = {"gradient_norm": 1.0, "gradient_factor": 0.25}
    assert "gradient" not in run.edited(OptimizerStep, 1, **cut).failed()


def test_gradients_without_a_norm_are_judged_by_their_tensors(run: Run) -> None:
    """And that is what is shown: not an error of 0 of a norm that nobody has recomputed."""
    verdict = without_gradients(run).verdicts()["gradient"]
    assert (verdict.outcome, verdict.measured, verdict.unit) == ("passed", 1e-6, "of the gradient")


@pytest.mark.parametrize(
    ("lost", "error", "passes"), [(0.0, 2e-4, False), (0.08, 0.1, True), (0.08, 0.1002, False)]
)
def test_gradients_that_float16_loses(run: Run, lost: float, error: float, passes: bool) -> None:
    """As much as that of the same batches loses, where it is as small."""
    cell = run.edited(OptimizerStep, 0, gradient_error=error, gradient_lost=lost)
    assert ("gradient" not in cell.failed()) is passes
