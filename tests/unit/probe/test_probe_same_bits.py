"""With the probe and without it: the same losses, weights and random numbers, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from tests.unit.probe.probe_loops import LOOPS, Numbers, Words, accumulating, net, seeded

from tunematrix.probe.tunematrix_probe import records

if TYPE_CHECKING:
    from tests.unit.probe.conftest import Watch


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.__name__)
def test_a_loop_comes_out_the_same(loop: Callable[[], Numbers], watch: Watch) -> None:
    """What is repeated to look at it leaves no trace, and agrees with what was there."""
    without = seeded(loop)
    found: Numbers = []
    seen = watch(lambda: found.extend(seeded(loop)))
    assert found == without
    assert seeded(loop) == without, "the probe has left something behind"
    gradients = seen.all(records.SeenGradient)
    assert all(g.error < g.tolerance and abs(g.scale / g.due - 1) < 1e-3 for g in gradients)
    assert all(u.error is None or u.error < 1e-3 for u in seen.all(records.SeenUpdate))
    steps = seen.all(records.SeenStep)
    assert steps and not any(s.kept or s.discarded for s in steps)


def test_nothing_is_left_behind(watch: Watch) -> None:
    """PyTorch's functions and a model's hooks are as they were."""
    before = [torch.autograd.backward, torch.save, torch.optim.Optimizer.__init__]
    before += [torch.nn.utils.clip_grad_norm_, torch.nn.Module.zero_grad]
    kept: list[Words] = []

    def loop() -> None:
        kept.append(Words())
        ids = torch.zeros(2, 3, dtype=torch.long)
        optimizer = torch.optim.SGD(kept[0].parameters(), lr=0.1)
        kept[0](ids).mean().backward()
        optimizer.step()

    watch(loop)
    after = [torch.autograd.backward, torch.save, torch.optim.Optimizer.__init__]
    after += [torch.nn.utils.clip_grad_norm_, torch.nn.Module.zero_grad]
    assert after == before
    assert not kept[0]._forward_hooks and not kept[0]._forward_pre_hooks
    assert not torch.nn.modules.module._global_forward_hooks


def test_an_error_of_the_probe_stays_there(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever falls over in the probe is told, and the training goes on as without it."""
    from tunematrix.probe.tunematrix_probe import batches, losses, models, updates

    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("planted")

    without = seeded(accumulating)
    monkeypatch.setattr(updates.Updates, "before", fail)
    monkeypatch.setattr(batches.Batches, "_look", fail)
    monkeypatch.setattr(losses, "_seen", fail)
    monkeypatch.setattr(models.Models, "_trained", fail)
    found: Numbers = []
    with pytest.raises(AssertionError, match="planted"):
        watch(lambda: found.extend(seeded(accumulating)))
    assert found == without


def test_a_model_that_raises_is_let_raise(watch: Watch) -> None:
    """An error of the training's own goes on as it is, and what follows is looked at again."""

    def loop() -> None:
        model = net()
        optimizer = torch.optim.AdamW(model.parameters())
        for width in (8, 9, 8):
            if width == 9:
                with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
                    model(torch.randn(4, width))
                continue
            model(torch.randn(4, width)).mean().backward()
            optimizer.step()

    seen = watch(loop)
    assert [s.step for s in seen.all(records.SeenStep)] == [0, 1]
    assert len(seen.all(records.SeenGradient)) == 2
