"""Models that torch.compile has compiled: what meters see of them, and what can't be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tunematrix.evidence.events import AdapterDropout, Arrivals, Compiled, MicroBatch
from tunematrix.faults import compiling

if TYPE_CHECKING:
    from tests.stack.conftest import RunPlanted, RunSmall

    from tunematrix.faults.catalogue import Fault

COMPILED: dict[str, object] = {"train__compile": "aot_eager", "train__rows": 4}
HONEST: list[dict[str, object]] = [
    {},
    {"method": "custom-lora"},
    {"method": "full", "model": "toy-qwen"},
    {"method": "dora"},
    {"quantizer": "bnb-nf4"},
    {"quantizer": "torchao-int8"},
    {"train__padding": "free"},
]


@pytest.mark.each_time(2)
@pytest.mark.parametrize("settings", HONEST, ids=str)
def test_honest_models(run_small: RunSmall, settings: dict[str, object]) -> None:
    """Batches, gradients and graphs are seen, nothing inside of layers, and nothing is red."""
    ran = run_small(**COMPILED | settings)
    # Over bitsandbytes, TRL lets adapters train in bfloat16.
    assert ran.failed <= ({"optimizer_update"} if "bnb" in str(settings) else set())
    seen, arrived = ran.evidence.one(Compiled), ran.evidence.one(Arrivals)
    assert seen is not None and arrived is not None
    assert seen.passes == len(ran.evidence.all(MicroBatch)) > 0
    assert arrived.steps > 0
    assert {one.layer_calls for one in ran.evidence.all(MicroBatch)} == {()}
    assert "activations" not in ran.verdicts
    dropout = ran.evidence.one(AdapterDropout)
    assert dropout is not None and dropout.inputs == 0


@pytest.mark.each_time(1)
@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (compiling.never_compiled, "compiled"),
        (compiling.fallen_back, "compiled"),
        (compiling.another_activation, "gradient"),
        (compiling.gradient_cut_in_the_graph, "gradient"),
        (compiling.weights_of_the_first_pass, "step_losses"),
    ],
)
def test_planted(
    run_planted: RunPlanted,
    fault: Fault,
    check: str,
) -> None:
    """What is compiled otherwise, or not at all, shows beside a pass that isn't compiled."""
    settings = COMPILED | {"method": "custom-lora"}
    assert check in run_planted(fault, **settings).failed


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method__implementation__dropout": 0.1}, "with dropout"),
        ({"precision": "bf16"}, "in bfloat16: a compiled model rounds elsewhere"),
        ({"backend": "mlx"}, "mlx-lm's trainer compiles each step by itself"),
    ],
)
def test_what_cannot_be_had(run_small: RunSmall, settings: dict[str, object], said: str) -> None:
    """The cell ends before it trains, and says why."""
    with pytest.raises(ValueError, match=said):
        run_small(**COMPILED | settings)
