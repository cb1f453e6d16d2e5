"""Adapters that are small, unlike each other or not alone; faults of one step alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pytest

from tunematrix.configuration import Configuration
from tunematrix.evidence.events import AdapterScale, AdapterUses, Arrivals, BaseWeights, Merged
from tunematrix.faults import checkpoints, company, data, memory, merging, once, parts, slight

if TYPE_CHECKING:
    from tests.stack.conftest import RunPlanted, RunSmall

Fault = Callable[[Configuration], AbstractContextManager[None]]
BY_LAYER: dict[str, object] = {
    "method__implementation__rank_pattern__down_proj": 4,
    "method__implementation__alpha_pattern__v_proj": 32,
}
PACKED: dict[str, object] = {"data": "packed", "train__max_length": 256}
MERGED: dict[str, object] = {"meters__merge": True}
USED: dict[str, object] = {"meters__merge": True, "meters__adapters": True}
BESIDE: dict[str, object] = {**USED, "method__implementation__beside": "frozen"}
LONG: dict[str, object] = {"train__max_steps": 10}
OURS = {"arrived", "every_step", "base_parts", "base_norms", "group_scales"}
OURS |= {"stored_states", "held", "merged_share", "merged_sum"}
ADAPTERS = {"adapter_scale", "adapter_formula", "adapter_rank", "adapter_uses", "trainable"}

HONEST: list[dict[str, object]] = [
    {**BY_LAYER, **USED},
    {**BY_LAYER, "method": "dora"},
    {**BESIDE, "method__implementation__adapter": "mine"},
    {"method__implementation__beside": "resting", "method": "dora"},
    {"method__implementation__beside": "trained", "train__seed": 3},
    {"quantizer": "hqq-int8", "train__max_steps": 8, "meters__merge": True},
    {"train__learning_rate": 1e-4, **USED},
    {**PACKED, "method": "full", "precision": "bf16"},
    {"method": "full", "optimizer": "sgd", "model": "toy-qwen"},
    {"precision": "fp16", "train__accumulation": 2},
    {"train__gradient_checkpointing": True, "quantizer": "bnb-nf4"},
    {"backend": "mlx", "quantizer": "mlx-int8", "meters__merge": True, "meters__adapters": True},
]


@pytest.mark.each_time(3)
@pytest.mark.parametrize("settings", HONEST, ids=str)
def test_honest_cells(run_small: RunSmall, settings: dict[str, object]) -> None:
    """Each meter has seen something, and nothing is red."""
    ran = run_small(**settings)
    assert ran.failed & (OURS | ADAPTERS) == set()
    torch = settings.get("backend") != "mlx"
    assert (ran.evidence.one(Arrivals) is not None) is torch
    base = ran.evidence.one(BaseWeights)
    assert base is not None
    assert base.parts
    assert bool(base.states) is ("quantizer" in settings)
    merged = ran.evidence.one(Merged)
    assert (merged is not None and len(merged.shares) == 14) is ("meters__merge" in settings)
    assert (ran.evidence.one(AdapterUses) is not None) is ("meters__adapters" in settings)


FAULTS: list[tuple[Fault, dict[str, object], str]] = [
    (company.ranks_by_layer_ignored, BY_LAYER, "adapter_rank"),
    (company.alphas_by_layer_ignored, BY_LAYER, "adapter_scale"),
    (company.never_switched_off, USED, "adapter_uses"),
    (company.never_switched_on_again, USED, "adapter_uses"),
    (company.weights_of_a_sum_ignored, USED, "adapter_uses"),
    (company.only_the_first_merged, BESIDE, "merged_share"),
    (company.second_adapter_of_another_scale, BESIDE, "adapter_scale"),
    (company.names_of_a_merge_ignored, BESIDE, "adapter_uses"),
    (company.others_left_active, BESIDE, "adapter_uses"),
    (company.merged_for_good, USED, "adapter_uses"),
    (company.taken_out_at_another_scale, USED, "adapter_uses"),
    (merging.four_bits_get_99_percent, {"quantizer": "bnb-nf4", **MERGED}, "merged_sum"),
    (merging.every_merge_adds_more, {"quantizer": "bnb-int8", **MERGED}, "merged_sum"),
    (merging.one_layer_gets_98_percent, {"quantizer": "torchao-int8", **MERGED}, "merged_sum"),
    (data.packed_into_less_room, PACKED, "micro_batches"),
    (checkpoints.another_dtype_in_the_settings, {"method": "full"}, "saved_settings"),
    (once.gradients_of_the_step_before, LONG, "arrived"),
    (once.one_gradient_of_the_step_before, LONG, "arrived"),
    (once.zeroing_forgotten_once, LONG, "arrived"),
    (once.updated_in_a_copy_once, LONG, "every_step"),
    (once.updated_in_a_copy_from_then_on, LONG, "every_step"),
    (parts.rotary_frequencies_rounded, {"quantizer": "bnb-nf4"}, "base_parts"),
    (parts.angles_in_bfloat16, {"quantizer": "bnb-nf4"}, "base_parts"),
    (parts.last_norm_in_bfloat16, {"quantizer": "hqq-int4"}, "base_parts"),
    (parts.norms_without_float32, {"precision": "bf16"}, "base_norms"),
    (parts.squares_of_norms_in_half, {"precision": "fp16"}, "base_norms"),
    (parts.rotary_without_float32, {"precision": "bf16"}, "base_parts"),
    (parts.last_block_of_another_scale, {"quantizer": "bnb-nf4"}, "group_scales"),
    (parts.offset_of_scales_one_percent_off, {"quantizer": "bnb-nf4"}, "group_scales"),
    (parts.last_scale_two_percent_off, {"quantizer": "hqq-int4"}, "group_scales"),
    (slight.one_scale_of_a_group, {"quantizer": "hqq-int4"}, "group_scales"),
    (parts.zero_points_in_bfloat16, {"quantizer": "hqq-int4"}, "stored_states"),
    (parts.zero_points_whole, {"quantizer": "hqq-int8"}, "stored_states"),
    (parts.offset_of_scales_rounded, {"quantizer": "bnb-nf4"}, "stored_states"),
    (memory.doubled_while_training, {}, "held"),
    (memory.grows_with_each_step, LONG, "held"),
]


@pytest.mark.each_time(5)
@pytest.mark.parametrize(
    ("fault", "settings", "check"), FAULTS, ids=[one[0].__name__ for one in FAULTS]
)
def test_planted(
    run_planted: RunPlanted,
    fault: Fault,
    settings: dict[str, object],
    check: str,
) -> None:
    """Each by the check that was made for its kind."""
    assert check in run_planted(fault, **settings).failed


def test_a_small_adapter_is_lost_in_four_bits(run_small: RunSmall) -> None:
    """Merging rounds nearly all of it away, whatever share of the logits that is."""
    ran = run_small(quantizer="hqq-int4", train__learning_rate=1e-3, meters__merge=True)
    assert "merged_share" in ran.failed


def test_patterns_reach_their_layers_alone(run_small: RunSmall) -> None:
    """A smaller rank means a larger factor, and alpha another one."""
    seen = run_small(**BY_LAYER).evidence.one(AdapterScale)
    assert seen is not None
    found = {name.rpartition(".")[2]: round(factor, 3) for name, factor in seen.layers}
    assert (found["down_proj"], found["v_proj"], found["q_proj"]) == (4.0, 4.0, 2.0)


def test_a_pattern_of_no_layer(run_small: RunSmall) -> None:
    """It would do nothing, and nothing would be wrong with any layer."""
    with pytest.raises(ValueError, match=r"alpha_pattern\.w_proj: no layer that is adapted is cal"):
        run_small(method__implementation__alpha_pattern__w_proj=32)


def test_embeddings_and_head_of_a_tied_model(run_small: RunSmall) -> None:
    """Trained apart they are no longer tied, and the merged model's settings say so rightly."""
    modules = ["model.embed_tokens", "lm_head"]
    ran = run_small(method__implementation__modules_to_save=modules, meters__merge=True)
    assert ran.failed & {"saved_settings", "merged_share"} == set()
