"""A fault is planted in a small loop's losses, gradients or updates, and a record shows it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.unit.probe.probe_loops import Words, next_token_loss
from tests.unit.probe.spoilt import Ids, Logits, Loop
from torch.nn import functional
from torch.optim import AdamW

from tunematrix.probe.tunematrix_probe import records

if TYPE_CHECKING:
    from tests.unit.probe.conftest import Watch


def test_an_honest_loop_shows_nothing(watch: Watch) -> None:
    """Each figure that a fault changes below is what it should be."""
    loop = Loop(passes=2)
    seen = watch(loop)
    gradient, update, loss = (
        seen.one(kind) for kind in (records.SeenGradient, records.SeenUpdate, records.SeenLoss)
    )
    assert (gradient.passes, gradient.unused) == (2, 0)
    assert gradient.error < 1e-4 and gradient.scale == pytest.approx(gradient.due)
    assert update.rule == "adamw" and update.error < 1e-4 and update.moved == 5
    assert (update.changed_between, update.undone, update.not_finite) == (0, 0, 0)
    assert (loss.counted, loss.targets_next, loss.fits) == (44, 44, 1.0)
    assert loss.cross_entropy == pytest.approx(loss.returned, rel=1e-4)
    assert loss.weight_least == pytest.approx(1 / 88, rel=1e-3)
    coverage, moved = seen.one(records.SeenCoverage), seen.one(records.SeenMoved)
    assert (coverage.trainable, coverage.missing, coverage.foreign, coverage.idle) == (5, 0, 0, 0)
    assert (moved.trained, moved.moved, moved.frozen, moved.last) == (5, 5, 0, True)
    step = seen.one(records.SeenStep)
    assert (step.kept, step.discarded, step.zeroed, step.zeroed_late) == (0, 0, 1, 0)
    assert (step.rows, step.tokens, step.with_gradient, step.zero_gradient) == (8, 96, 5, 0)
    assert seen.one(records.ProbeEnded).how == "stopped"


def _spoil_one(loop: Loop) -> None:
    gradient = loop.model.inner.weight.grad
    assert gradient is not None
    gradient[3] *= -1


def _stale(loop: Loop) -> None:
    gradients = [p.grad.clone() for p in loop.model.parameters() if p.grad is not None]
    for p, old in zip(loop.model.parameters(), vars(loop).get("old", gradients), strict=True):
        p.grad = old.clone()
    loop.__dict__["old"] = gradients


@pytest.mark.parametrize("fault", [_spoil_one, _stale])
def test_a_gradient_that_is_not_the_losses(fault: Callable[[Loop], None], watch: Watch) -> None:
    """One row with the wrong sign, and the gradients of the step before."""
    gradient = watch(Loop(before=fault)).one(records.SeenGradient)
    assert gradient.error > 0.1


def test_a_pass_that_is_lost_shows_in_what_is_discarded(watch: Watch) -> None:
    """Gradients are zeroed before each backward pass, so the last one alone counts."""
    model = Words()
    optimizer = AdamW(model.parameters(), lr=1e-2)

    def loss(logits: Logits, ids: Ids) -> torch.Tensor:
        optimizer.zero_grad()
        return next_token_loss(logits, ids)

    step = watch(Loop(model, optimizer, loss, passes=3)).one(records.SeenStep)
    assert (step.passes, step.discarded, step.zeroed_late) == (3, 2, 2)


def test_gradients_that_are_kept(watch: Watch) -> None:
    """Nobody zeroes them: the second step's first pass finds them as they were."""
    first, second = watch(Loop(after=lambda loop: None)).all(records.SeenStep)
    assert (first.kept, second.kept, second.zeroed) == (0, 5, 0)


def test_gradients_that_are_zeroed_too_early(watch: Watch) -> None:
    """Zeroed between the backward pass and the step."""
    seen = watch(Loop(before=lambda loop: loop.optimizer.zero_grad()))
    step = seen.one(records.SeenStep)
    assert (step.with_gradient, step.discarded) == (0, 1)
    assert seen.all(records.SeenGradient) == []


class WrongAdamW(AdamW):
    """Has a step of its own, and no name that promises a formula."""

    def step(self, closure: Any = None) -> Any:
        """Step with twice the rate."""
        for group in self.param_groups:
            group["lr"] *= 2
        super().step(closure)
        for group in self.param_groups:
            group["lr"] /= 2


def test_an_update_that_is_not_the_formula(watch: Watch) -> None:
    """A class that calls itself by a formula is held to it; any other isn't."""
    model = Words()
    other = watch(Loop(model, WrongAdamW(model.parameters(), lr=1e-2))).one(records.SeenUpdate)
    assert (other.rule, other.error) == ("", None)


def test_a_step_that_is_changed_on_the_way(watch: Watch) -> None:
    """Somebody changes the rate after it was read, so the step isn't that of the group."""
    model = Words()
    optimizer = AdamW(model.parameters(), lr=1e-2)

    def double(optimizer: Any, args: Any, kwargs: Any) -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.99)

    optimizer.register_step_post_hook(double)
    update = watch(Loop(model, optimizer)).one(records.SeenUpdate)
    assert update.rule == "adamw"
    assert update.error > 0.01 or update.changed_between == 5


def test_weights_that_are_put_back(watch: Watch) -> None:
    """What the step has changed is undone before the next one."""
    model = Words(dropout=0.0)
    start = copy.deepcopy(model.state_dict())
    update = watch(Loop(model, after=lambda loop: model.load_state_dict(start))).one(
        records.SeenUpdate
    )
    assert (update.changed_between, update.undone) == (5, 5)


def test_a_loss_over_what_is_shifted_twice(watch: Watch) -> None:
    """The target of each position is the token after the next."""

    def loss(logits: Logits, ids: Ids) -> torch.Tensor:
        return functional.cross_entropy(logits[:, :-2].flatten(0, 1), ids[:, 2:].flatten())

    found = watch(Loop(loss=loss)).one(records.SeenLoss)
    assert (found.counted, found.targets_second) == (40, 40)
    assert found.targets_next < 20


def test_logits_that_come_in_parts(watch: Watch) -> None:
    """Some models return them in chunks, one after the other along each row."""

    class Chunked(Words):
        def forward(self, input_ids: torch.Tensor) -> Any:
            return list(super().forward(input_ids).split(5, dim=1))

    def loss(logits: Any, ids: Ids) -> torch.Tensor:
        return next_token_loss(torch.cat(logits, dim=1), ids)

    seen = watch(Loop(Chunked(), loss=loss))
    found = seen.one(records.SeenLoss)
    assert (found.positions, found.counted, found.targets_next) == (48, 44, 44)
    assert seen.one(records.SeenGradient).error < 1e-4


def test_a_loss_that_is_no_cross_entropy(watch: Watch) -> None:
    """Squared logits fit nothing; a smoothed cross-entropy fits with its smoothing."""
    seen = watch(Loop(loss=lambda logits, ids: logits.square().mean()))
    assert seen.one(records.SeenLoss).fits < 0.1


def test_a_smoothed_loss(watch: Watch) -> None:
    """Label smoothing is found, and told."""

    def loss(logits: Logits, ids: Ids) -> torch.Tensor:
        targets, scores = ids[:, 1:].flatten(), logits[:, :-1].flatten(0, 1)
        return functional.cross_entropy(scores, targets, label_smoothing=0.2)

    model = Words()
    with torch.no_grad():
        # While all tokens are as likely, smoothing looks like less weight.
        model.head.weight.mul_(20)
    found = watch(Loop(model, loss=loss)).one(records.SeenLoss)
    assert found.fits == 1.0 and found.smoothing == pytest.approx(0.2, rel=0.01)
