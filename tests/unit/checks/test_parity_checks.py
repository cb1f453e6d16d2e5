from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from tunematrix.evidence.events import Parity, Transfer
from tunematrix.evidence.figures import parity_values

if TYPE_CHECKING:
    from tests.unit.conftest import Run

BOUNDS = {"logits": 2e-4, "gradients": 1e-4, "trace": 5e-4}


@pytest.mark.parametrize(("position", "quantity"), [*enumerate(BOUNDS)])
def test_parity_at_its_bound(run: Run, position: int, quantity: str) -> None:
    """The bound itself passes, and no other quantity is asked."""
    for factor, failed in ((1.0, set()), (1.01, {f"parity_{quantity}"})):
        difference = BOUNDS[quantity] * factor
        assert run.edited(Parity, position, difference=difference).failed() == failed


@pytest.mark.parametrize("quantity", BOUNDS)
def test_parity_without_a_bound(run: Run, quantity: str) -> None:
    """What was measured and that nothing decides fails."""
    less = run.asked(parity={name: b for name, b in BOUNDS.items() if name != quantity})
    assert less.failed() == {f"parity_{quantity}"}
    assert f"add parity.{quantity}" in less.verdicts()[f"parity_{quantity}"].message


def test_half_precision_has_no_trace(run: Run) -> None:
    """Neither measured nor asked for; logits and gradients always are."""
    none = run.without(Parity).asked(parity=None)
    assert none.failed() == {"parity_logits", "parity_gradients"}
    assert "parity_trace" not in none.verdicts()


def test_a_transfer_needs_both_formats(run: Run) -> None:
    """An engine that loads its own adapters proves nothing about the other's."""
    own = run.recording(run.evidence.all(Transfer)[0])
    assert own.failed() == {"transfer"}
    assert own.verdicts()["transfer"].measured is None


def test_transfer_at_its_bound(run: Run) -> None:
    """Of two adapters the worse decides."""
    for position in (0, 1):
        assert not run.edited(Transfer, position, difference=1e-4).failed()
        assert run.edited(Transfer, position, difference=1.1e-4).failed() == {"transfer"}


@pytest.mark.parametrize("changed", [0.0, 1e-4, math.nan, math.inf])
def test_transfer_of_an_adapter_that_does_nothing(run: Run, changed: float) -> None:
    """It gives the base's outputs wherever it is loaded, or isn't."""
    idle = run.edited(Transfer, 0, difference=0.0, changed_by_training=changed)
    assert idle.failed() == {"transfer"}


def test_transfer_without_a_bound(run: Run) -> None:
    """Nothing decides, so it fails."""
    assert run.asked(transfer=None).failed() == {"transfer"}


def test_figures_for_the_record(run: Run) -> None:
    """Each value once, under the name of its quantity."""
    assert parity_values(run.evidence) == {
        "parity_gradients.q_proj": 0.5,
        "parity_gradients.up_proj": 0.25,
        "parity_trace.01": 8.5,
        "parity_trace.02": 5.8,
    }
