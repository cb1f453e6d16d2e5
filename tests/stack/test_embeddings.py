"""Adapters on embeddings: honest ones of many kinds, and what is wrong with others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from tunematrix.evidence.events import AdapterFormula, AdapterScale, Merged
from tunematrix.faults import embeddings
from tunematrix.faults.catalogue import Fault
from tunematrix.stack.engines.torch.meters import embedding

if TYPE_CHECKING:
    from tests.stack.conftest import RunPlanted, RunSmall

OWN: dict[str, object] = {
    "model": "untied-llama",
    "method__implementation__embeddings": True,
    "meters__merge": True,
}
HONEST: list[dict[str, object]] = [
    {},
    {"method__implementation__beside": "frozen"},
    {"method__implementation__beside": "trained"},
    {"method__implementation__head": True},
    {"method__implementation__dropout": 0.1, "method__implementation__use_rslora": True},
    {"method__implementation__rank_pattern__embed_tokens": 4},
    {"method__implementation__adapter": "mine"},
    {"precision": "bf16"},
    {"model": "toy-phi3"},
]
CHECKS = {"trainable", "attached", "adapter_start", "adapter_scale", "adapter_formula"}
CHECKS |= {"adapter_rank", "reload", "merged_share"}


@pytest.mark.each_time(3)
@pytest.mark.parametrize("settings", HONEST, ids=str)
def test_honest_embeddings(run_small: RunSmall, settings: dict[str, object]) -> None:
    """They are looked at beside the linear layers, and nothing is red."""
    ran = run_small(**OWN | settings)
    assert ran.failed & CHECKS == set()
    scale, formula = ran.evidence.one(AdapterScale), ran.evidence.one(AdapterFormula)
    merged = ran.evidence.one(Merged)
    assert scale is not None and formula is not None and merged is not None
    for found in (scale.layers, formula.layers, merged.shares):
        assert any(one.name.endswith("embed_tokens") for one in found)


@pytest.mark.each_time(2)
@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (embeddings.embeddings_left_out, "trainable"),
        (embeddings.embeddings_of_another_scale, "adapter_scale"),
        (embeddings.embeddings_of_another_scale, "adapter_formula"),
        (embeddings.embeddings_drawn_narrow, "adapter_start"),
        (embeddings.embeddings_not_merged, "merged_share"),
        (embeddings.embeddings_not_saved, "reload"),
    ],
)
def test_planted(
    run_planted: RunPlanted,
    fault: Fault,
    check: str,
) -> None:
    """Each by the check that was extended for its kind."""
    assert check in run_planted(fault, **OWN).failed


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("spread", [2e-5, 0.05])
def test_few_tokens_that_moved_a_little(dtype: torch.dtype, spread: float) -> None:
    """Of a large vocabulary the data has few, and what they have learned is finer than the base."""
    base = nn.ModuleDict({"embed": nn.Embedding(5000, 32)}).to(dtype)
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=["embed"]))
    ((_, layer),) = embedding.adapted(model)
    ((first, _),) = embedding.active_factors(layer)
    with torch.no_grad():
        first[:, [3, 1700, 4999]] = (torch.randn(4, 3) * spread).to(first.dtype)
    (factor,) = embedding.scales(layer, torch.Generator().manual_seed(0))
    assert factor == pytest.approx(2, rel=0.02)


def test_dora_has_none(run_small: RunSmall) -> None:
    """Its paper speaks of layers that multiply, and the cell says so."""
    with pytest.raises(Exception, match="can't be had with DoRA"):
        run_small(**OWN | {"method": "dora"})
