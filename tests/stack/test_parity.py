"""The recorded truth against the real engine, honest and with one thing changed a little."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from mlx import nn
from mlx_lm.models import gemma3_text
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, PreTrainedModel

from tunematrix.errors import BadInput
from tunematrix.evidence.events import Parity
from tunematrix.faults.patching import replaced
from tunematrix.stack.engines.torch import TorchEngine
from tunematrix.stack.toyworld import architectures, definition, models, truth
from tunematrix.testing import tiny_tokenizer

if TYPE_CHECKING:
    from tests.stack.conftest import RunCell

CELL = "parity[cpu]"
LOGITS, GRADIENTS, TRACE = "parity_logits", "parity_gradients", "parity_trace"
WEIGHT = "model.layers.1.mlp.up_proj.weight"
GEMMA, MOE, QWEN, PHI, GPT = (
    f"parity-architectures[cpu-toy-{name}]" for name in ("gemma", "moe", "qwen", "phi3", "gpt2")
)
UNTIED = "parity-architectures[cpu-untied-llama]"


def _changed(change: Callable[[PreTrainedModel], object]) -> AbstractContextManager[None]:
    """Change each original as it is loaded."""

    def wrap(original: Any) -> Any:
        def load(engine: TorchEngine) -> PreTrainedModel:
            model: PreTrainedModel = original(engine)
            change(model)
            return model

        return load

    return replaced(TorchEngine, "original", wrap)


def _weight_scaled(model: PreTrainedModel) -> None:
    model.get_parameter(WEIGHT).data.mul_(1.01)


def _gradient_scaled(model: PreTrainedModel) -> None:
    model.get_parameter(WEIGHT).register_hook(lambda gradient: 1.01 * gradient)


def _gradient_turned(model: PreTrainedModel) -> None:
    model.get_parameter("model.layers.0.input_layernorm.weight").register_hook(torch.neg)


def _wider_epsilon(model: PreTrainedModel) -> None:
    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon = 1e-5


def _other_rotary_base(model: PreTrainedModel) -> None:
    rotary = model.get_submodule("model.rotary_emb")
    rotary.inv_freq = 10500.0 ** (-torch.arange(0, 32, 2) / 32)


def _attention_scaled(model: PreTrainedModel) -> None:
    model.get_submodule("model.layers.0.self_attn").scaling *= 1.01


def _rate_scaled() -> AbstractContextManager[None]:
    def wrap(original: Any) -> Any:
        return lambda self, params, lr: original(self, params, lr=1.01 * lr)

    return replaced(torch.optim.SGD, "__init__", wrap)


def _set(module: str, name: str, value: object) -> Callable[[PreTrainedModel], object]:
    """Give one attribute of one module another value."""
    return lambda model: setattr(model.get_submodule(module), name, value)


def _exact_gelu(model: PreTrainedModel) -> None:
    model.get_submodule("model.layers.1.mlp").act_fn = torch.nn.GELU()


def _bias_dropped(model: PreTrainedModel) -> None:
    model.get_parameter("model.layers.1.self_attn.k_proj.bias").data.zero_()


def _halves_swapped(model: PreTrainedModel) -> None:
    fused = model.get_parameter("model.layers.0.mlp.gate_up_proj.weight").data
    fused.copy_(torch.cat([*reversed(fused.chunk(2))]))


def _experts_swapped(model: PreTrainedModel) -> None:
    fused = model.get_parameter("model.layers.1.mlp.experts.down_proj").data
    fused.copy_(fused[[1, 0, 2, 3]].clone())


def _positions_moved(model: PreTrainedModel) -> None:
    positions = model.get_parameter("transformer.wpe.weight").data
    positions.copy_(positions.roll(1, 0).clone())


def _head_tied(model: PreTrainedModel) -> None:
    model.get_submodule("lm_head").weight = model.get_input_embeddings().weight


def _one_token_untaught(model: PreTrainedModel) -> None:
    """Keep what lies below the embeddings from teaching one token that no text has."""
    embeddings = model.get_input_embeddings()

    def detached(_: object, given: tuple[torch.Tensor], out: torch.Tensor) -> torch.Tensor:
        return torch.where((given[0] == 250).unsqueeze(-1), out.detach(), out)

    embeddings.register_forward_hook(detached)


ALL = {LOGITS, GRADIENTS, TRACE}
PLANTED: dict[str, tuple[str, Callable[[], AbstractContextManager[None]], set[str]]] = {
    "weight x 1.01": (CELL, lambda: _changed(_weight_scaled), {"base_weights", *ALL}),
    "gradient x 1.01": (CELL, lambda: _changed(_gradient_scaled), {GRADIENTS, TRACE}),
    "gradient x -1": (CELL, lambda: _changed(_gradient_turned), {GRADIENTS, TRACE}),
    "norm's epsilon x 10": (CELL, lambda: _changed(_wider_epsilon), ALL),
    "rotary base + 5 %": (CELL, lambda: _changed(_other_rotary_base), {"base_parts", *ALL}),
    "attention scale x 1.01": (CELL, lambda: _changed(_attention_scaled), ALL),
    "rate x 1.01": (CELL, _rate_scaled, {TRACE}),
    "a token that no text has": (CELL, lambda: _changed(_one_token_untaught), {GRADIENTS}),
    "gemma: a window wider by 1": (
        GEMMA,
        lambda: _changed(lambda model: setattr(model.config, "sliding_window", 65)),
        {LOGITS, GRADIENTS},
    ),
    "gemma: GELU without its approximation": (
        GEMMA,
        lambda: _changed(_exact_gelu),
        {LOGITS, GRADIENTS},
    ),
    "moe: shares that add up to 1": (
        MOE,
        lambda: _changed(_set("model.layers.0.mlp.gate", "norm_topk_prob", True)),
        ALL,
    ),
    "moe: one expert to a token": (
        MOE,
        lambda: _changed(_set("model.layers.1.mlp.gate", "top_k", 1)),
        ALL,
    ),
    "moe: experts confused": (MOE, lambda: _changed(_experts_swapped), ALL),
    "qwen: no bias": (QWEN, lambda: _changed(_bias_dropped), {"base_weights", *ALL}),
    "gpt: GELU without its approximation": (
        GPT,
        lambda: _changed(_set("transformer.h.1.mlp", "act", torch.nn.GELU())),
        ALL,
    ),
    "gpt: positions from 1": (GPT, lambda: _changed(_positions_moved), {"base_weights", *ALL}),
    "untied: a head that is tied": (UNTIED, lambda: _changed(_head_tied), {"base_weights", *ALL}),
    "phi: gate and up confused": (PHI, lambda: _changed(_halves_swapped), {"base_weights", *ALL}),
}


@pytest.mark.parametrize(
    "cell",
    [
        *(CELL, GEMMA, MOE, QWEN, PHI, GPT, UNTIED),
        *("parity-bf16[cpu-bf16]", "parity-fp16[cpu-fp16]"),
    ],
)
def test_honest_engine_passes(run_here: RunCell, cell: str) -> None:
    """In each precision; the trace is float32's alone."""
    judged = run_here(cell)
    assert judged.failed == set()
    quantities = {parity.quantity for parity in judged.evidence.all(Parity)}
    assert quantities == {"logits", "gradients", *([] if "16" in cell else ["trace"])}


@pytest.mark.each_time(4)
@pytest.mark.parametrize("fault", PLANTED)
def test_small_fault_is_named(run_here: RunCell, fault: str) -> None:
    """A hundredth more or less, in one tensor, fails just what it acts on."""
    cell, plant, checks = PLANTED[fault]
    with plant():
        assert run_here(cell).failed == checks


@pytest.mark.parametrize("name", ["gemma", "phi3"])
def test_honest_mlx_passes(run_here: RunCell, name: str) -> None:
    """By the same definitions."""
    assert run_here(f"parity-architectures[mlx-toy-{name}]").failed == set()


def test_small_fault_of_mlx_is_named(run_here: RunCell) -> None:
    """Gemma's other GELU, which no loss shows."""
    with replaced(gemma3_text.nn, "gelu_approx", lambda _: nn.gelu):
        failed = run_here("parity-architectures[mlx-toy-gemma]").failed
    assert failed == {LOGITS, GRADIENTS}


def test_missing_gradient_is_named(run_here: RunCell) -> None:
    """A parameter without one isn't passed over."""

    def wrap(original: Any) -> Any:
        def gradients(*arguments: Any) -> Any:
            return {n: g for n, g in original(*arguments).items() if n != WEIGHT}

        return gradients

    with replaced(TorchEngine, "gradients", wrap):
        judged = run_here(CELL)
    assert judged.failed == {GRADIENTS}
    assert WEIGHT in judged.verdicts[GRADIENTS].message


@pytest.mark.parametrize("name", ["base", *architectures.NAMES])
def test_truth_is_what_the_definition_gives(name: str, tmp_path: Path) -> None:
    """Recorded of each model, and computed again: logits, gradients and the first losses."""
    folder, tokenizer = models.resolve(f"toyworld://{name}", tmp_path), tiny_tokenizer()
    config = AutoConfig.from_pretrained(folder)
    weights = {n: w.double() for n, w in load_file(folder / "model.safetensors").items()}
    recorded, probe = truth.read(folder), truth.probe(tokenizer)
    logits = torch.cat([definition.logits(weights, config, example.ids) for example in probe])
    assert np.abs(logits.numpy() - recorded.logits).max() < 1e-6
    gradients = definition.gradients(weights, config, truth.gradient_rows(tokenizer))
    assert gradients.keys() == recorded.sketches.keys() == recorded.norms.keys()
    for one, gradient in gradients.items():
        assert truth.sketch(gradient.numpy()) == pytest.approx(recorded.sketches[one], abs=1e-6)
        assert float(gradient.norm()) == pytest.approx(recorded.norms[one])
    losses = definition.descend(weights, config, truth.batches(tokenizer)[:3], truth.RATE)
    assert losses == pytest.approx(recorded.losses[:3])
    assert recorded.losses[-1] < (0.25 if name == "base" else 1) * recorded.losses[0]


def test_every_token_teaches_its_embedding() -> None:
    """Also those that no form of data has; padding alone can't."""
    tokenizer = tiny_tokenizer()
    rows = truth.gradient_rows(tokenizer)
    seen = {token for row in rows for token in row.ids}
    assert seen == {*range(architectures.VOCABULARY_SIZE)} - {tokenizer.pad_token_id}


@pytest.mark.parametrize("other", ["wide", "bfloat16", "sharded", "a weight less"])
def test_truth_of_another_base_is_refused(other: str, tmp_path: Path) -> None:
    """It would fail every check, and blame the engine."""
    if other == "wide":
        folder = models.resolve("toyworld://wide", tmp_path)
    else:
        folder = models.resolve("toyworld://qwen", tmp_path)
        file = folder / "model.safetensors"
        weights = load_file(file)
        if other == "bfloat16":
            save_file({name: weight.bfloat16() for name, weight in weights.items()}, file)
        elif other == "sharded":
            file.rename(folder / "model-00001-of-00001.safetensors")
        else:
            save_file({**weights, "model.norm.weight": weights["model.norm.weight"] * 0.99}, file)
    with pytest.raises(BadInput, match="is no model that reference/ was recorded of"):
        truth.read(folder)


def test_the_last_bit_of_a_weight_is_not_what_a_model_is_known_by(tmp_path: Path) -> None:
    """Another machine's logarithm may give another one, by which the tails are drawn."""
    folder = models.resolve("toyworld://qwen", tmp_path)
    file = folder / "model.safetensors"
    before, weights = truth.sha256(folder), load_file(file)
    moved = {
        name: torch.where(weight.abs().gt(0.28), weight.nextafter(torch.ones(())), weight)
        for name, weight in weights.items()
        if "norm" not in name
    }
    assert sum(int((moved[name] != weights[name]).sum()) for name in moved) > 20
    save_file({**weights, **moved}, file)
    assert truth.sha256(folder) == before


def test_sketch_sees_every_entry() -> None:
    """One changed entry of a matrix or a vector changes its sketch."""
    for shape in ((5, 7), (6,)):
        gradient = np.ones(shape)
        for place in np.ndindex(shape):
            changed = gradient.copy()
            changed[place] += 0.01
            assert np.abs(truth.sketch(changed) - truth.sketch(gradient)).max() > 0.003


def test_reference_is_small() -> None:
    """It travels in the package."""
    files = [file for file in truth.FOLDER.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 1_700_000
