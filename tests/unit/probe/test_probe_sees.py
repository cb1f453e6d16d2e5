"""A fault is planted in a small loop, and the record that has to shows it."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
import torch
from tests.unit.probe.probe_loops import Words, next_token_loss, rows
from torch import nn
from torch.nn import functional
from torch.optim import SGD, AdamW

from tunematrix.probe.tunematrix_probe import records

if TYPE_CHECKING:
    from tests.unit.probe.conftest import Watch

Logits: TypeAlias = torch.Tensor
Ids: TypeAlias = torch.Tensor


@dataclass
class Loop:
    """A plain loop; each part can be replaced by one with a fault.

    Attributes:
        loss: of logits and tokens; passes: per step; before, after: called around each step.
    """

    model: Words = field(default_factory=Words)
    optimizer: Any = None
    loss: Callable[[Logits, Ids], torch.Tensor] = next_token_loss
    passes: int = 1
    steps: int = 2
    before: Callable[[Loop], object] = lambda loop: None
    after: Callable[[Loop], object] = lambda loop: loop.optimizer.zero_grad()
    ids: Callable[[], Ids] = rows

    def __call__(self) -> None:
        """Train."""
        self.optimizer = self.optimizer or AdamW(self.model.parameters(), lr=1e-2)
        for _ in range(self.steps):
            for _ in range(self.passes):
                ids = self.ids()
                (self.loss(self.model(ids), ids) / self.passes).backward()
            self.before(self)
            self.optimizer.step()
            self.after(self)


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


def test_parameters_that_no_optimizer_has(watch: Watch) -> None:
    """One layer is forgotten; the optimizer of another copy of the model trains nothing."""
    model = Words()
    coverage = watch(Loop(model, SGD(list(model.parameters())[:-2], lr=0.1))).one(
        records.SeenCoverage
    )
    assert (coverage.missing, coverage.missing_names) == (2, ("head.weight", "head.bias"))


def test_an_optimizer_of_another_copy(watch: Watch) -> None:
    """The model is made anew after its optimizer was."""
    model, old = Words(), Words()
    seen = watch(Loop(model, SGD(old.parameters(), lr=0.1)))
    coverage = seen.one(records.SeenCoverage)
    assert (coverage.missing, coverage.foreign, coverage.replaced) == (5, 5, 5)
    assert seen.one(records.SeenStep).with_gradient == 0


def test_an_optimizer_of_another_copy_beneath_a_wrapper(watch: Watch) -> None:
    """The same, though its passes can't be made again: the optimizer lacks what the model has."""
    model, old = Words(), Words()
    loop = Loop(nn.DataParallel(model), SGD(old.parameters(), lr=0.1))
    coverage = watch(loop).one(records.SeenCoverage)
    assert (coverage.missing, coverage.foreign, coverage.replaced) == (5, 5, 5)


def test_a_graph_that_is_cut(watch: Watch) -> None:
    """What comes before a detach gets no gradient, though it was called before what does."""

    class Cut(Words):
        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return self.head(torch.relu(self.inner(self.words(input_ids))).detach())

    coverage = watch(Loop(Cut())).one(records.SeenCoverage)
    assert (coverage.idle, coverage.idle_before) == (3, 3)


def test_frozen_weights_that_change(watch: Watch) -> None:
    """Somebody writes to what is said to stay."""
    model = Words()
    model.words.requires_grad_(False)

    def write(loop: Loop) -> None:
        with torch.no_grad():
            model.words.weight[0] += 1

    moved = watch(Loop(model, after=write)).one(records.SeenMoved)
    assert (moved.frozen, moved.frozen_changed_names) == (1, ("words.weight",))


def test_a_model_that_is_gone_is_let_go(watch: Watch) -> None:
    """While a process goes on, the probe keeps no parameters that nobody else keeps."""
    kept: list[weakref.ref[nn.Parameter]] = []

    def train_and_leave() -> None:
        loop = Loop(before=lambda one: nn.utils.clip_grad_norm_(one.model.parameters(), 1.0))
        loop()
        kept.extend(map(weakref.ref, loop.model.parameters()))
        del loop
        gc.collect()
        assert [one for one in kept if one() is not None] == []

    watch(train_and_leave)
    assert kept


def test_what_is_clipped(watch: Watch) -> None:
    """Another model's gradients, and one's own, given as an iterator."""
    other = Words()

    def clip(loop: Loop) -> None:
        nn.utils.clip_grad_norm_(other.parameters(), 1e-3)
        nn.utils.clip_grad_norm_(loop.model.parameters(), 1e-3)

    seen = watch(Loop(before=clip))
    others, own = (records.SeenClip(**clip) for clip in seen.one(records.SeenStep).clips)
    assert (others.ours, own.ours, own.tensors) == (0, 5, 5)
    assert own.norm is not None and own.norm > 0.01
    assert seen.one(records.SeenStep).gradient_norm == pytest.approx(1e-3, rel=1e-2)


def test_evaluation_in_training_mode(watch: Watch) -> None:
    """A pass without gradients with dropout on counts; in evaluation mode it doesn't."""

    def evaluate(loop: Loop) -> None:
        with torch.no_grad():
            loop.model(rows())
            loop.model.eval()(rows())
        loop.model.drop.train(False)
        loop.model.words.train()

    seen = watch(Loop(after=evaluate))
    evaluation = seen.one(records.SeenEvaluation)
    assert (evaluation.passes, evaluation.training, evaluation.effective) == (4, 1, 1)
    last = seen.one(records.SeenStep)
    assert (last.training, last.dropouts_off) == (0.0, 1)


def test_a_schedule(watch: Watch) -> None:
    """Calls are counted, those before the first step apart, and those of parts not at all."""
    model = Words()
    optimizer = SGD(model.parameters(), lr=0.1)
    parts = [torch.optim.lr_scheduler.ConstantLR(optimizer) for _ in range(2)]
    both = torch.optim.lr_scheduler.SequentialLR(optimizer, parts, [1])

    def loop() -> None:
        built = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        whole = torch.optim.lr_scheduler.SequentialLR(
            optimizer, [torch.optim.lr_scheduler.ConstantLR(optimizer) for _ in range(2)], [1]
        )
        built.step()
        Loop(model, optimizer, after=lambda loop: (built.step(), whole.step()))()

    seen = watch(loop)
    alone, sequence = seen.all(records.SeenScheduler)
    assert (alone.name, alone.calls, alone.before_first) == ("StepLR", 3, 1)
    assert (sequence.name, sequence.calls, sequence.steps) == ("SequentialLR", 2, 2)
    assert seen.one(records.SeenStep).schedule_calls == 2
    assert both.last_epoch == 0


def test_what_is_saved(watch: Watch, tmp_path: Path) -> None:
    """The live weights, a copy of how they began, and a model that is saved whole."""
    model = Words()
    start = copy.deepcopy(model.state_dict())
    loop = Loop(model)

    def run() -> None:
        loop()
        torch.save({"model": model.state_dict(), "step": 2}, tmp_path / "live.pt")
        torch.save(start, tmp_path / "stale.pt")
        torch.save(model, tmp_path / "whole.pt")

    live, stale, whole = watch(run).all(records.SeenSaved)
    assert (live.matched, live.differing, live.missing) == (5, 0, 0)
    assert (stale.name, stale.differing, stale.as_at_start) == ("stale.pt", 5, 5)
    assert whole.matched == 5
    assert b"tunematrix_probe" not in (tmp_path / "whole.pt").read_bytes()


def test_what_is_in_a_batch(watch: Watch) -> None:
    """Rows are known again wherever their padding stands; labels are counted by their shift."""

    class Called(Words):
        config = type("Config", (), {"eos_token_id": 2, "pad_token_id": 0})()

        def forward(self, input_ids: Any, attention_mask: Any = None, labels: Any = None) -> Any:
            return super().forward(input_ids)

    model = Called()
    ids = torch.tensor([[5, 6, 7, 2, 0, 0], [0, 0, 5, 6, 7, 2]])
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]])

    def loop() -> None:
        optimizer = SGD(model.parameters(), lr=0.1)
        for given in ({"attention_mask": mask, "labels": ids}, {"labels": ids}):
            next_token_loss(model(ids, **given), ids).backward()
        optimizer.step()

    masked, bare = watch(loop).all(records.SeenBatch)
    assert masked.digests[0] == masked.digests[1]
    assert (masked.tokens, masked.labelled, masked.padding_labelled) == (8, 12, 4)
    assert (masked.equal_labels, masked.ends, masked.ends_labelled) == (12, 2, 2)
    # Without a mask, a row's end may be padding all the same.
    assert (bare.tokens, bare.padding_labelled) == (10, 2)


def test_a_scaler_whose_loss_is_dropped(watch: Watch) -> None:
    """The backward pass begins from the loss that wasn't scaled."""
    model = Words()
    optimizer = SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)

    def loop() -> None:
        for scaled in (True, False):
            ids = rows()
            loss = next_token_loss(model(ids), ids)
            bigger = scaler.scale(loss)
            (bigger if scaled else loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()

    right, wrong = (records.SeenScaler(**step.scaler) for step in watch(loop).all(records.SeenStep))
    assert (right.factor, right.scaled_loss) == (64.0, True)
    assert not wrong.scaled_loss
