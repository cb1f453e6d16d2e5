"""Which steps are looked at closely, how much of a large model, and what callers see of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from torch.optim import SGD, lr_scheduler

from tunematrix.probe.tunematrix_probe import records, sampling

if TYPE_CHECKING:
    from tests.unit.probe.conftest import Watch

STEPS = 12


def steps_of(schedule: Callable[[SGD], lr_scheduler.LRScheduler], each: int) -> Callable[[], None]:
    """Return a loop of twelve steps whose schedule is stepped after each so many."""

    def loop() -> None:
        model = nn.Linear(4, 1)
        optimizer = SGD(model.parameters(), lr=0.1)
        scheduler = schedule(optimizer)
        for step in range(STEPS):
            model(torch.randn(3, 4)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            if (step + 1) % each == 0:
                scheduler.step()

    return loop


def _audited(watch: Watch, loop: Callable[[], None]) -> list[int]:
    return [step.step for step in watch(loop).all(records.SeenStep) if step.audited]


def test_the_last_step_of_a_schedule_is_audited(watch: Watch) -> None:
    """It says for how many steps it is made."""
    loop = steps_of(lambda one: lr_scheduler.CosineAnnealingLR(one, STEPS), 1)
    assert _audited(watch, loop) == [0, 1, 3, 7, 11]


def test_the_last_step_of_a_schedule_of_epochs_is_audited(watch: Watch) -> None:
    """How many steps an epoch has is seen when the first has ended."""
    loop = steps_of(lambda one: lr_scheduler.CosineAnnealingLR(one, 4), 3)
    assert _audited(watch, loop) == [0, 1, 3, 7, 11]


def test_without_a_schedule_that_ends_the_last_step_is_unknown(watch: Watch) -> None:
    """Then only ever fewer steps are looked at closely."""
    loop = steps_of(lambda one: lr_scheduler.ExponentialLR(one, 0.9), 1)
    assert _audited(watch, loop) == [0, 1, 3, 7]


class Large(nn.Module):
    """A model of which not every element is compared."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 2000), nn.Linear(2000, 8)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return numbers, (rows, 8)."""
        return self.last(torch.relu(self.first(inputs)))


def _large(spoil: Callable[[Large], object]) -> Callable[[], None]:
    def loop() -> None:
        model = Large()
        optimizer = SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            for _ in range(2):
                model(torch.randn(4, 64)).square().mean().backward()
            spoil(model)
            optimizer.step()
            optimizer.zero_grad()

    return loop


def _turn_a_column(model: Large) -> None:
    assert model.first.weight.grad is not None
    model.first.weight.grad[:, 5] *= -1


def _turn_a_row(model: Large) -> None:
    assert model.last.weight.grad is not None
    model.last.weight.grad[3] *= -1


@pytest.fixture
def in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have 20,000 of its 146,008 elements compared."""
    monkeypatch.setattr(sampling, "COMPARED", 20_000)


@pytest.mark.usefixtures("in_part")
def test_a_large_model_is_compared_in_part_and_says_so(watch: Watch) -> None:
    """All tensors are, and agree."""
    seen = watch(_large(lambda model: None)).one(records.SeenGradient)
    assert (seen.sampled, seen.tensors, seen.passes) == (True, 4, 2)
    assert 18_000 <= seen.elements < 30_000
    # In float32 the order of the sums is the machine's.
    assert seen.error < 1e-4 and seen.scale == pytest.approx(1, rel=1e-4)


@pytest.mark.usefixtures("in_part")
@pytest.mark.parametrize("spoil", [_turn_a_column, _turn_a_row])
def test_a_part_shows_what_is_wrong(spoil: Callable[[Large], None], watch: Watch) -> None:
    """No row and no column of a matrix falls between the elements that are compared."""
    assert watch(_large(spoil)).one(records.SeenGradient).error > 0.1


def test_a_small_model_is_compared_whole(watch: Watch) -> None:
    """Each element of each gradient."""
    seen = watch(_large(lambda model: None)).one(records.SeenGradient)
    assert (seen.sampled, seen.elements) == (False, 146_008)


def test_a_warning_names_the_line_that_it_is_about(watch: Watch) -> None:
    """PyTorch counts the frames up to its caller, and the probe's own between aren't among them."""
    found: list[warnings.WarningMessage] = []

    def loop() -> None:
        model = nn.Linear(2, 1)
        optimizer = SGD(model.parameters(), lr=0.1)
        scheduler = lr_scheduler.StepLR(optimizer, 1)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            scheduler.step()
        model(torch.ones(1, 2)).mean().backward()
        optimizer.step()
        found.extend(caught)

    loop()
    watch(loop)
    without, with_probe = found
    assert "before `optimizer.step()`" in str(without.message)
    assert (with_probe.filename, with_probe.lineno) == (without.filename, without.lineno)
    assert with_probe.filename == __file__
