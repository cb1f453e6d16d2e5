"""Adapters drawn from their names: whoever trains them, they go the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from tunematrix.errors import BadInput
from tunematrix.stack.engines.torch import plain_loop, scoring
from tunematrix.stack.engines.torch.padding import TorchBatch
from tunematrix.stack.yardsticks import starts

if TYPE_CHECKING:
    from tests.stack.conftest import RunSmall, Small

    from tunematrix.evidence.tensors import Kind

DRAWN = {"train__adapter_start": "drawn", "train__rows": 4, "meters__tensors": True}
SGD = {"optimizer": "sgd", "train__max_grad_norm": 0.0, "train__learning_rate": 0.5}
STEPS = 3
# Of a tensor's largest entry. Over three steps: 6.1e-6 under AdamW, 4.3e-6 under SGD; over six,
# 7.7e-6 and 1.3e-5; on a processor without AVX-512, 1.4e-5 over three. A planted 1 % shows as 1e-2.
GRADIENTS = 5e-5
# AdamW divides a gradient by its own size, so where that is rounding, so is the update: 3.6e-5.
PARAMETERS = {"sgd": 1e-5, "adamw": 2e-4}


def furthest(one: Small, other: Small, kind: Kind, step: int) -> float:
    """Return the largest difference of the worst tensor of a kind, relative to its largest."""
    mine, theirs = one.stage(kind, step), other.stage(kind, step)
    assert mine and mine.keys() == theirs.keys()
    return max(
        float(np.abs(mine[name] - theirs[name]).max() / np.abs(mine[name]).max()) for name in mine
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_peft_and_a_lora_of_our_own_go_the_same_way(run_small: RunSmall, optimizer: str) -> None:
    """SFTTrainer over PEFT, and a plain loop over plain layers: the same gradients at each step."""
    settings = {**DRAWN, **(SGD if optimizer == "sgd" else {})}
    lora, custom = run_small("lora", **settings), run_small("custom-lora", **settings)
    assert lora.failed == custom.failed == set()
    assert furthest(lora, custom, "parameter", 0) == 0
    for step in range(STEPS):
        assert furthest(lora, custom, "gradient", step) < GRADIENTS
        assert furthest(lora, custom, "parameter", step + 1) < PARAMETERS[optimizer]
    assert all(np.any(gradient) for gradient in lora.stage("gradient", 0).values())


def test_a_loss_that_is_a_hundredth_off_shows(
    run_small: RunSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients are held close enough to see 1 %."""
    lora = run_small("lora", **DRAWN, **SGD)
    nats = scoring.nats

    def larger(logits: torch.Tensor, batch: TorchBatch, smoothing: float) -> torch.Tensor:
        return 1.01 * nats(logits, batch, smoothing)

    monkeypatch.setattr(plain_loop, "nats", larger)
    custom = run_small("custom-lora", **DRAWN, **SGD)
    assert furthest(lora, custom, "gradient", 0) == pytest.approx(0.01, rel=1e-2)


def test_libraries_start_elsewhere(run_small: RunSmall) -> None:
    """Without the setting, each draws its own, and B starts at zero."""
    settings = {"meters__tensors": True, "train__max_steps": 1}
    start = run_small("lora", **settings).stage("parameter", 0)
    other = run_small("custom-lora", **settings).stage("parameter", 0)
    assert not any(np.any(t) for name, t in start.items() if name.endswith(starts.SECOND))
    assert not any(
        np.array_equal(t, other[name]) for name, t in start.items() if name.endswith(starts.FIRST)
    )


@pytest.mark.each_time(1)
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_mlx_goes_pytorchs_way(run_small: RunSmall, method: str) -> None:
    """Under SGD, mlx-lm's adapters are where PEFT's are after each step: within 3e-6."""
    # All rows in each step, since the two shuffle differently.
    settings = {**DRAWN, **SGD, "train__batch_size": 4}
    ran = {backend: run_small(method, backend, **settings) for backend in ("cpu", "mlx")}
    assert all(cell.failed == set() for cell in ran.values())
    for step in range(STEPS + 1):
        assert furthest(ran["cpu"], ran["mlx"], "parameter", step) < PARAMETERS["sgd"]


@pytest.mark.parametrize("backend", ["cpu", "mlx"])
def test_dora_starts_as_the_lora_that_it_is(run_small: RunSmall, backend: str) -> None:
    """Its magnitudes are the norms of what is adapted, so at first they change nothing."""
    still = {**DRAWN, **SGD, "train__learning_rate": 0.0}
    lora, dora = run_small("lora", backend, **still), run_small("dora", backend, **still)
    logits, adapted = lora.stage("logits"), dora.stage("logits")
    assert np.abs(logits["trained"] - adapted["trained"]).max() < 1e-4
    assert np.abs(logits["trained"] - logits["base"]).max() > 1e-2


@pytest.mark.parametrize("backend", ["cpu", "mlx"])
def test_what_cannot_be_drawn_is_refused(run_small: RunSmall, backend: str) -> None:
    """Full fine-tuning has no adapter; a word that isn't known means nothing."""
    with pytest.raises(ValueError, match="full has no lora_A"):
        run_small("full", backend, train__adapter_start="drawn")
    with pytest.raises(BadInput, match="zero is not one of its values"):
        run_small("lora", backend, train__adapter_start="zero")
