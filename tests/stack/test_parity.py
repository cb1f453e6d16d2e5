"""The recorded truth against the real engine, honest and with one thing changed a little."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, PreTrainedModel

from tunematrix.errors import BadInput
from tunematrix.evidence.events import Parity
from tunematrix.faults.patching import replaced
from tunematrix.stack.engines.torch import TorchEngine
from tunematrix.stack.toyworld import llama, models, truth
from tunematrix.testing import tiny_tokenizer

if TYPE_CHECKING:
    from tests.stack.conftest import RunCell

CELL = "parity[cpu]"
LOGITS, GRADIENTS, TRACE = "parity_logits", "parity_gradients", "parity_trace"
WEIGHT = "model.layers.1.mlp.up_proj.weight"


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


PLANTED: dict[str, tuple[Callable[[], AbstractContextManager[None]], set[str]]] = {
    "weight x 1.01": (
        lambda: _changed(_weight_scaled),
        {"base_weights", LOGITS, GRADIENTS, TRACE},
    ),
    "gradient x 1.01": (lambda: _changed(_gradient_scaled), {GRADIENTS, TRACE}),
    "gradient x -1": (lambda: _changed(_gradient_turned), {GRADIENTS, TRACE}),
    "norm's epsilon x 10": (lambda: _changed(_wider_epsilon), {LOGITS, GRADIENTS, TRACE}),
    "rotary base + 5 %": (
        lambda: _changed(_other_rotary_base),
        {LOGITS, GRADIENTS, TRACE, "base_parts"},
    ),
    "attention scale x 1.01": (lambda: _changed(_attention_scaled), {LOGITS, GRADIENTS, TRACE}),
    "rate x 1.01": (_rate_scaled, {TRACE}),
}


@pytest.mark.parametrize("cell", [CELL, "parity-bf16[cpu-bf16]", "parity-fp16[cpu-fp16]"])
def test_honest_engine_passes(run_here: RunCell, cell: str) -> None:
    """In each precision; the trace is float32's alone."""
    judged = run_here(cell)
    assert judged.failed == set()
    quantities = {parity.quantity for parity in judged.evidence.all(Parity)}
    assert quantities == {"logits", "gradients", *(["trace"] if cell == CELL else [])}


@pytest.mark.each_time(4)
@pytest.mark.parametrize("fault", PLANTED)
def test_small_fault_is_named(run_here: RunCell, fault: str) -> None:
    """A hundredth more or less, in one tensor, fails just what it acts on."""
    plant, checks = PLANTED[fault]
    with plant():
        assert run_here(CELL).failed == checks


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


def test_truth_is_what_the_definition_gives() -> None:
    """Recorded of the shipped base, and computed again: logits, gradients and the first losses."""
    config = LlamaConfig.from_pretrained(models.BASE)
    weights = {n: w.double() for n, w in load_file(models.BASE / "model.safetensors").items()}
    tokenizer = tiny_tokenizer()
    recorded, probe = truth.read(models.BASE), truth.probe(tokenizer)
    logits = torch.cat([llama.logits(weights, config, example.ids) for example in probe])
    assert np.abs(logits.numpy() - recorded.logits).max() < 1e-6
    gradients = llama.gradients(weights, config, probe)
    assert gradients.keys() == recorded.sketches.keys() == recorded.norms.keys()
    for name, gradient in gradients.items():
        assert truth.sketch(gradient.numpy()) == pytest.approx(recorded.sketches[name], abs=1e-6)
        assert float(gradient.norm()) == pytest.approx(recorded.norms[name])
    losses = llama.descend(weights, config, truth.batches(tokenizer)[:3], truth.RATE)
    assert losses == pytest.approx(recorded.losses[:3])
    assert recorded.losses[-1] < 0.25 * recorded.losses[0]


def test_truth_of_another_base_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    """It would fail every check, and blame the engine."""
    other = models.resolve("toyworld://wide", tmp_path_factory.mktemp("cache"))
    with pytest.raises(BadInput, match="isn't the model that reference/ was recorded of"):
        truth.read(other)


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
    assert sum(file.stat().st_size for file in files) < 600_000
