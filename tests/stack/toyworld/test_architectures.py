from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.tiny import tiny_configuration
from transformers import AutoModelForCausalLM, GPT2LMHeadModel, LlamaConfig

from tunematrix.stack.engines.common import open_checkpoint
from tunematrix.stack.engines.torch.meters import storage
from tunematrix.stack.engines.torch.methods.common import describe
from tunematrix.stack.engines.torch.unquantized import TorchUnquantized
from tunematrix.stack.toyworld import architectures, models, tokenizer

STORY = "Once upon a time, there was a dog."


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that the models of this file share."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("name", architectures.NAMES)
def test_made_once_from_a_seed(name: str, cache: Path, tmp_path: Path) -> None:
    """Another cache gets the same weights, torch's own stream is left alone, logits vary."""
    torch.manual_seed(1)
    state = torch.get_rng_state()
    folder = models.resolve(f"toyworld://{name}", cache)
    assert torch.equal(torch.get_rng_state(), state)
    made = (folder / "model.safetensors").stat().st_mtime_ns
    assert models.resolve(f"toyworld://{name}", cache) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made
    again = models.resolve(f"toyworld://{name}", tmp_path)
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values())
    assert 80_000 < model.num_parameters() < 200_000
    with torch.no_grad():
        logits = model(input_ids=torch.arange(6, 70)[None]).logits
    assert logits.std().item() > 0.4


@pytest.mark.parametrize("name", architectures.NAMES)
def test_its_tokenizer_is_the_toy_worlds(name: str, cache: Path) -> None:
    """transformers knows rules of its own for some architectures (Qwen2's), which are not ours."""
    config = tiny_configuration("unused.recipe")
    model = config.model.model_copy(update={"path": f"toyworld://{name}"})
    update = {"model": model, "cache_dir": str(cache)}
    _, words = open_checkpoint(config.model_copy(update=update))
    assert words(STORY)["input_ids"] == tokenizer.build()(STORY)["input_ids"]


def test_transposed_projections_are_described_the_right_way_round(cache: Path) -> None:
    """GPT-2's fused projection takes 64 and gives 192, though its weight is (64, 192)."""
    model = GPT2LMHeadModel.from_pretrained(models.resolve("toyworld://gpt2", cache))
    base = describe(model)
    shapes = dict(zip(base.linears, base.shapes, strict=True))
    assert shapes["transformer.h.0.attn.c_attn"] == (192, 64)
    assert "lm_head" not in shapes


def test_experts_are_no_linear_layers(cache: Path) -> None:
    """They share one tensor a projection, so that adapters go on attention alone."""
    model = AutoModelForCausalLM.from_pretrained(models.resolve("toyworld://moe", cache))
    assert {name.rpartition(".")[2] for name in describe(model).linears} == {
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
    }


def test_biases_are_not_stored_weights(cache: Path) -> None:
    """A float32 weight has 32 bits whether its layer has a bias or not."""
    model = AutoModelForCausalLM.from_pretrained(models.resolve("toyworld://qwen", cache))
    seen = storage.measure(model, describe(model), TorchUnquantized())
    assert {8 * size / (shape[0] * shape[1]) for _, shape, size in seen.layers} == {32.0}
    assert seen.total_bytes >= 4 * model.num_parameters()


def test_a_configuration_that_is_not_there() -> None:
    """The release is named."""
    assert architectures.configuration_class("LlamaConfig") is LlamaConfig
    with pytest.raises(ValueError, match=r"transformers \d.* knows no Llama9Config"):
        architectures.configuration_class("Llama9Config")
