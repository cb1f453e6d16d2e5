from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tunematrix.evidence.events import OptimizerStep

if TYPE_CHECKING:
    from tests.unit.conftest import Run


@pytest.mark.parametrize(
    ("second", "measured"),
    [
        ((), "never"),
        ((1,), "after step 1"),
        ((3,), "after step 3"),
        ((1, 2), "after step 1 and 2"),
    ],
)
def test_an_interruption_elsewhere(run: Run, second: tuple[int, ...], measured: str) -> None:
    """Training goes on with another optimizer after the step that was asked for, and only there."""
    for position in range(len(run.evidence.all(OptimizerStep))):
        stretch = sum(position >= step for step in second)
        run = run.edited(OptimizerStep, position, stretch=stretch)
    assert run.failed() == {"interrupted"}
    assert run.verdicts()["interrupted"].measured == measured


def test_a_second_optimizer_that_nobody_asked_for(run: Run) -> None:
    """A trainer that begins anew on its own loses what its optimizer knew."""
    asked_nothing = run.configured(train={"interrupt_at": 0})
    assert asked_nothing.failed() == {"interrupted"}
    for position in (2, 3):
        asked_nothing = asked_nothing.edited(OptimizerStep, position, stretch=0)
    assert "interrupted" not in asked_nothing.verdicts()
