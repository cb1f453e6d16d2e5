"""A fault is planted around a small loop's steps, and the record that has to shows it."""

from __future__ import annotations

import copy
import gc
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.unit.probe.probe_loops import Words, next_token_loss, rows
from tests.unit.probe.spoilt import Loop
from torch import nn
from torch.optim import SGD

from tunematrix.probe.tunematrix_probe import records

if TYPE_CHECKING:
    from tests.unit.probe.conftest import Watch


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
