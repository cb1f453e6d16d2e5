"""Tensors that a cell keeps for relations: whole, in time, under names that engines share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from tunematrix.evidence.tensors import TensorKey
from tunematrix.stack.engines.torch.meters import tensors
from tunematrix.stack.yardsticks.names import canonical

if TYPE_CHECKING:
    from tests.stack.conftest import RunSmall

    from tunematrix.evidence.tensors import Array

SGD = {"optimizer": "sgd", "train__max_grad_norm": 0.0, "meters__tensors": True}


def test_names_say_what_is_adapted_and_not_by_whom() -> None:
    """PEFT's wrappers go, and so does `.weight` of an adapter's tensor, and of no other."""
    layer = "model.layers.0.self_attn.q_proj"
    found = {
        f"base_model.model.{layer}.lora_A.default.weight": f"{layer}.lora_A",
        f"base_model.model.{layer}.lora_magnitude_vector.default.weight": (
            f"{layer}.lora_magnitude_vector"
        ),
        f"{layer}.lora_B": f"{layer}.lora_B",
        "base_model.model.lm_head.modules_to_save.default.weight": "lm_head.weight",
        f"{layer}.weight": f"{layer}.weight",
    }
    assert {name: canonical(name) for name in found} == found


def test_a_cell_keeps_nothing_unless_asked(run_small: RunSmall) -> None:
    """The meter is off by default."""
    assert not run_small().tensors


@pytest.mark.parametrize("method", ["lora", "custom-lora", "full"])
def test_each_update_is_its_gradient(run_small: RunSmall, method: str) -> None:
    """Under SGD, parameters before and after a step and the gradient between them are one sum."""
    ran = run_small(method, **SGD, train__learning_rate=0.5)
    assert not ran.failed
    start = ran.stage("parameter", 0)
    for step in range(3):
        before, after = ran.stage("parameter", step), ran.stage("parameter", step + 1)
        gradients = ran.stage("gradient", step)
        assert before.keys() == after.keys() == gradients.keys() == start.keys()
        for name, gradient in gradients.items():
            np.testing.assert_allclose(
                after[name], before[name] - 0.5 * gradient, rtol=1e-6, atol=1e-7, err_msg=name
            )
    assert not ran.stage("gradient", 3)
    assert any(np.any(start[name] != before[name]) for name in start)


def test_states_that_would_go_on_are_kept(run_small: RunSmall) -> None:
    """AdamW's moments and step count for each parameter, and every generator's state."""
    ran = run_small(meters__tensors=True)
    names = set(ran.stage("parameter", 3))
    keys = {f"{name}/{key}" for name in names for key in ("exp_avg", "exp_avg_sq", "step")}
    assert set(ran.stage("state")) == keys
    assert {float(t) for n, t in ran.stage("state").items() if n.endswith("/step")} == {3.0}
    assert {"python", "numpy", "torch"} <= set(ran.stage("random"))
    assert set(ran.stage("logits")) == {"base", "trained"}
    assert np.any(ran.stage("logits")["base"] != ran.stage("logits")["trained"])


@pytest.mark.each_time(1)
@pytest.mark.parametrize("method", ["lora", "dora", "full"])
def test_mlx_names_its_parameters_alike(run_small: RunSmall, method: str) -> None:
    """The engines keep parameters of the same names and shapes, after the same steps."""
    kept = {
        backend: {
            step: {n: t.shape for n, t in ran.stage("parameter", step).items()} for step in range(4)
        }
        for backend in ("cpu", "mlx")
        for ran in [run_small(method, backend, **SGD)]
    }
    assert kept["mlx"] == kept["cpu"]
    assert kept["mlx"][3]


def test_with_as_many_rows_as_a_step_takes_every_step_sees_the_same(run_small: RunSmall) -> None:
    """The batches' order no longer matters: a rate of 0 leaves every gradient as it was."""
    settings = {**SGD, "train__learning_rate": 0.0, "train__accumulation": 2}
    ran = run_small("full", **settings, train__rows=8)
    first, last = ran.stage("gradient", 0), ran.stage("gradient", 2)
    for name, gradient in first.items():
        np.testing.assert_allclose(last[name], gradient, rtol=1e-4, atol=1e-6, err_msg=name)
    other = run_small("full", **settings)
    last = other.stage("gradient", 2)
    assert not all(np.allclose(last[n], g, rtol=0.1) for n, g in other.stage("gradient", 0).items())


def test_rows_that_fill_no_step_are_refused(run_small: RunSmall) -> None:
    """Whatever a trainer would do with the rest of an epoch, it isn't asked."""
    with pytest.raises(ValueError, match=r"train\.rows=6"):
        run_small(train__rows=6)


def test_sharded_tensors_are_gathered() -> None:
    """Parameters that a trainer shards after the meter began are kept whole, by their names."""
    kept: dict[TensorKey, Array] = {}
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        model = nn.Linear(3, 2, bias=False)
        weight = model.weight.detach().clone()
        with tensors.watch(model, kept.__setitem__):
            fully_shard(model, mesh=distributed.init_device_mesh("cpu", (1,)))
            optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
            model(torch.ones(1, 3)).sum().backward()
            optimizer.step()
        assert isinstance(model.weight, DTensor)
    finally:
        distributed.destroy_process_group()
    np.testing.assert_array_equal(kept[TensorKey("parameter", 0, "weight")], weight)
    np.testing.assert_array_equal(kept[TensorKey("gradient", 0, "weight")], np.ones((2, 3)))
    after, moment = (
        kept[TensorKey("parameter", 1, "weight")],
        kept[TensorKey("state", None, "weight", "exp_avg")],
    )
    assert after.shape == moment.shape == (2, 3)
