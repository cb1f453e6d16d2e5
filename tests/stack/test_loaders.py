"""What was saved, loaded in every way, and a quantizer's weights, taken out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tunematrix.evidence.events import LogitError
from tunematrix.evidence.tensors import Array
from tunematrix.stack.quantizers import hqq, torchao

if TYPE_CHECKING:
    from tests.stack.conftest import RunSmall

LOADERS = {"meters__loaders": True, "train__max_steps": 8, "train__batch_size": 8}
ROUNDING = 1e-5
# PEFT loads adapters in float32, and TRL trains them in bfloat16 over bitsandbytes.
HALF = 2e-2
ADAPTER = {"base", "trained", "reloaded", "peft", "merged", "unmerged"}
AUTO = {"auto", "auto-peft", "untyped", "hasty", "foreign"}
"""Over a plain base."""
QUANTIZERS = [
    "bnb-nf4", "bnb-int8", "hqq-int4", "hqq-int8", "quanto-int8", "torchao-int4", "torchao-int8",
]  # fmt: skip


def apart(one: Array, other: Array) -> float:
    """Return the norm of the difference over the norm of the second."""
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


@pytest.mark.each_time(2)
@pytest.mark.parametrize(
    ("method", "stages"),
    [
        ("lora", ADAPTER | AUTO),
        ("dora", ADAPTER | AUTO),
        ("full", {"base", "trained", "reloaded", "auto", "untyped"}),
        ("custom-lora", {"base", "trained", "reloaded"}),
    ],
)
def test_each_way_gives_what_was_trained(
    run_small: RunSmall, method: str, stages: set[str]
) -> None:
    """However an adapter or a checkpoint is loaded, it is the model that was saved."""
    ran = run_small(method, **LOADERS)
    assert not ran.failed
    logits = ran.stage("logits")
    assert set(logits) == stages
    assert apart(logits.pop("base"), logits["trained"]) > 0.1
    if method == "dora":
        # transformers 5.23 loads no magnitude, and reports as much: 0.1 when measured.
        assert apart(logits.pop("auto"), logits["trained"]) > 0.01
    for stage, found in logits.items():
        assert apart(found, logits["trained"]) < ROUNDING, stage


@pytest.mark.each_time(1)
@pytest.mark.parametrize("method", ["lora", "full"])
def test_mlx_loads_what_it_saved(run_small: RunSmall, method: str) -> None:
    """mlx-lm has one way to load, and fuses what is an adapter."""
    logits = run_small(method, "mlx", **LOADERS).stage("logits")
    assert set(logits) == {"base", "trained", "reloaded"} | (
        {"merged"} if method == "lora" else set()
    )
    assert apart(logits["reloaded"], logits["trained"]) < ROUNDING
    assert apart(logits.get("merged", logits["reloaded"]), logits["trained"]) < ROUNDING


@pytest.mark.each_time(1)
@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_over_quantizers(run_small: RunSmall, quantizer: str) -> None:
    """Loading adds nothing; merging rounds once more, by no more than quantizing did."""
    ran = run_small(**LOADERS, quantizer=quantizer, meters__dequantized=True)
    logits = ran.stage("logits")
    loads = {"reloaded", "peft"} | ({"auto", "auto-peft"} if "bnb" in quantizer else set())
    loads |= set() if "bnb" in quantizer or "hqq" in quantizer else {"late"}
    others = {"base", "trained", "merged", "unmerged", "quantized", "dequantized"}
    assert set(logits) == others | loads
    trained = logits["trained"]
    for stage in loads:
        assert apart(logits[stage], trained) < (HALF if "bnb" in quantizer else ROUNDING), stage
    error = ran.evidence.one(LogitError)
    assert error is not None
    # LLM.int8 multiplies rounded activations, and a plain model doesn't.
    most = error.relative if quantizer == "bnb-int8" else ROUNDING
    assert apart(logits["quantized"], logits["dequantized"]) < most
    if "quanto" in quantizer:
        # Merging does nothing to quanto's weights, and says nothing.
        np.testing.assert_array_equal(logits["merged"], logits["base"])
        return
    assert apart(logits["merged"], trained) < 1.5 * error.relative
    assert apart(logits["unmerged"], trained) < 1.5 * error.relative
    assert apart(logits["merged"], logits["base"]) > 0.1


@pytest.mark.parametrize("quantizer", ["mlx-int4", "mlx-int8"])
def test_mlx_dequantizes(run_small: RunSmall, quantizer: str) -> None:
    """A plain model with the weights that MLX's stand for gives the same logits."""
    ran = run_small("lora", "mlx", quantizer=quantizer, meters__dequantized=True)
    logits = ran.stage("logits")
    assert set(logits) == {"quantized", "dequantized"}
    assert apart(logits["quantized"], logits["dequantized"]) < ROUNDING


@pytest.mark.parametrize(
    ("room", "quantizer"), [(hqq.Hqq, "hqq-int4"), (torchao.TorchAo, "torchao-int8")]
)
def test_a_wrong_scale_shows(
    run_small: RunSmall, monkeypatch: pytest.MonkeyPatch, room: Any, quantizer: str
) -> None:
    """A dequantized weight that is a hundredth off isn't the one that was multiplied by."""
    right = room.dequantized
    monkeypatch.setattr(room, "dequantized", lambda self, layer: right(self, layer) * 1.01)
    logits = run_small(quantizer=quantizer, meters__dequantized=True).stage("logits")
    assert apart(logits["quantized"], logits["dequantized"]) > 100 * ROUNDING


def test_an_adapted_head_is_trained_saved_and_lost_in_merging(run_small: RunSmall) -> None:
    """Tied to the embeddings, it takes them along: https://github.com/huggingface/peft/issues/2018."""
    ran = run_small("lora", **LOADERS, method__implementation__head=True)
    assert not ran.failed
    logits = ran.stage("logits")
    merged, hasty = logits.pop("merged"), logits.pop("hasty")
    assert apart(logits.pop("base"), logits["trained"]) > 0.1
    for stage, found in logits.items():
        assert apart(found, logits["trained"]) < ROUNDING, stage
    # 0.21 when measured, both ways.
    assert apart(merged, logits["trained"]) > 0.01
    assert apart(hasty, logits["trained"]) > 0.01


def test_mlx_adapts_no_head(run_small: RunSmall) -> None:
    """Its blocks are all that mlx-lm looks at."""
    with pytest.raises(ValueError, match="head=true"):
        run_small("lora", "mlx", method__implementation__head=True)
