"""The step finalize for real: adapters are merged, quantized, exported, and loaded again."""

from __future__ import annotations

from typing import Any

import pytest
from tests.stack.finalize_step.conftest import EXPORTED, Adapter, Finalize

from tunematrix.errors import StepFailed
from tunematrix.evidence.events import StepExported, StepKept

CHECKS = {"step_kept", "step_exported", "step_settings"}
HONEST: list[tuple[str, str, str, dict[str, Any]]] = [
    *(
        ("base", quantizer, dtype, {})
        for quantizer in EXPORTED
        for dtype in ("float32", "bfloat16")
    ),
    *(("gpt2", quantizer, "float32", {}) for quantizer in ("none", "bnb-nf4", "bnb-int8")),
    ("untied", "bnb-nf4", "bfloat16", {}),
    ("untied", "torchao-int8", "float32", {}),
    ("qwen", "bnb-nf4", "bfloat16", {}),
    ("qwen", "torchao-int4", "float32", {}),
    ("gemma", "none", "bfloat16", {}),
    ("gemma", "bnb-int8", "bfloat16", {}),
    ("phi3", "bnb-nf4", "float32", {}),
    ("phi3", "torchao-int8", "bfloat16", {}),
    ("moe", "none", "float32", {}),
    ("moe", "bnb-nf4", "bfloat16", {}),
    ("base", "bnb-nf4", "float32", {"use_dora": True}),
    ("base", "none", "float32", {"use_dora": True}),
    ("base", "torchao-int8", "float32", {"use_rslora": True}),
    ("base", "none", "float32", {"size": 1e-5}),
    ("base", "bnb-nf4", "bfloat16", {"size": 1e-4}),
    ("base", "bnb-nf4", "float32", {"size": 0.5}),
    ("base", "bnb-nf4", "float32", {"size": 0.0}),
    ("base", "bnb-int8", "float32", {"target_modules": ["q_proj", "down_proj"]}),
]


@pytest.mark.each_time(6)
@pytest.mark.parametrize(("model", "quantizer", "dtype", "settings"), HONEST)
def test_an_honest_export_passes(
    adapter: Adapter,
    finalize: Finalize,
    model: str,
    quantizer: str,
    dtype: str,
    settings: dict[str, Any],
) -> None:
    """Over quantizers, types, architectures, and kinds and sizes of adapters."""
    found = finalize(adapter(model, **settings), quantizer, dtype=dtype)
    assert not found.failed, found.verdicts
    assert found.verdicts.keys() >= CHECKS
    (exported,) = found.evidence.all(StepExported)
    assert exported.difference == 0
    (kept,) = found.evidence.all(StepKept)
    # Nothing is merged where there is nothing to add.
    assert bool(kept.shares) == (settings.get("size") != 0.0)
    assert bool(kept.merged) == (bool(kept.shares) and quantizer != "none")


@pytest.mark.parametrize("quantizer", ["none", "bnb-nf4"])
def test_a_whole_model_is_exported_as_well(finalize: Finalize, quantizer: str) -> None:
    """Without an adapter there is nothing to merge, and the rest is the same."""
    found = finalize("toyworld://base", quantizer)
    assert not found.failed
    assert found.verdicts.keys() >= CHECKS


FAULTS = [
    *(
        (fault, quantizer, "step_kept")
        for fault in (
            "merges_nothing",
            "merges_twice",
            "scales_by_alpha_alone",
            "leaves_out_a_layer",
            "begins_with_the_base",
            "begins_with_another_adapter",
            "merges_into_a_quantized_base",
            "quantizes_what_was_merged_twice",
        )
        for quantizer in ("none", "bnb-nf4", "torchao-int4", "bnb-int8")
    ),
    ("skips_a_layer", "bnb-nf4", "step_kept"),
    ("shifts_a_norm", "none", "step_kept"),
    ("shifts_a_norm", "bnb-nf4", "step_kept"),
    ("shifts_a_norm", "bnb-nf4", "step_exported"),
    ("loses_a_tensor", "none", "step_exported"),
    ("saves_another_tokenizer", "none", "step_settings"),
    ("saves_another_tokenizer", "torchao-int8", "step_settings"),
    ("saves_another_template", "bnb-nf4", "step_settings"),
]


@pytest.mark.each_time(8)
@pytest.mark.parametrize(("fault", "quantizer", "check"), FAULTS)
def test_a_planted_fault_is_noticed(
    adapter: Adapter, finalize: Finalize, fault: str, quantizer: str, check: str
) -> None:
    """By the check that stands for it."""
    found = finalize(adapter(), quantizer, fault)
    assert check in found.failed, found.verdicts


def test_a_torn_export_fails(adapter: Adapter, finalize: Finalize) -> None:
    """It can't even be loaded, and the step says which folder that is."""
    with pytest.raises(StepFailed, match=r"can't be loaded .* likely it was cut off"):
        finalize(adapter(), "none", "tears_the_export")


def test_an_adapter_that_rounding_swallows(adapter: Adapter, finalize: Finalize) -> None:
    """Merged into a quantized base, a small adapter is lost, although errors look right."""
    found = finalize(adapter(size=2e-3), "bnb-nf4", "merges_into_a_quantized_base")
    assert "step_kept" in found.failed


@pytest.mark.parametrize("quantizer", ["torchao-int8", "torchao-int4"])
def test_a_model_that_a_quantizer_leaves_alone(
    adapter: Adapter, finalize: Finalize, quantizer: str
) -> None:
    """In GPT-2, torchao finds no linear layer, and neither it nor transformers says so."""
    found = finalize(adapter("gpt2"), quantizer)
    assert found.failed == {"step_kept"}
    assert "quantized twice, not at all" in found.verdicts["step_kept"].message
