"""Each meter of the MLX engine sees the fault that it is for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import pytest
from mlx.optimizers import AdamW
from mlx.utils import tree_map
from mlx_lm.tuner import trainer

from tunematrix.evidence.events import Memory
from tunematrix.stack.engines import mlx as mlx_engine
from tunematrix.stack.engines.mlx import loading, methods, optimizers
from tunematrix.stack.quantizers.mlx import Affine
from tunematrix.stack.recipes.data import prepare

if TYPE_CHECKING:
    from tests.stack.conftest import ComposeSmall, RunSmall


def replace(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, wrap: Any) -> None:
    """Put `wrap(original)` in the place of an attribute of the real library."""
    monkeypatch.setattr(owner, name, wrap(getattr(owner, name)))


def label_left_out(patch: pytest.MonkeyPatch) -> None:
    """Let the loss skip each row's first prediction."""
    replace(
        patch,
        trainer,
        "default_loss",
        lambda loss: lambda model, batch, lengths: loss(model, batch, lengths + mx.array([2, 0])),
    )


def loss_halved(patch: pytest.MonkeyPatch) -> None:
    """Let the loss divide by twice its tokens."""

    def wrap(loss: Any) -> Any:
        def halved(*args: Any) -> tuple[mx.array, mx.array]:
            value, tokens = loss(*args)
            return value / 2, tokens

        return halved

    replace(patch, trainer, "default_loss", wrap)


def gradient_scaled(patch: pytest.MonkeyPatch) -> None:
    """Scale the gradients by 1.01 on their way to the optimizer."""

    def wrap(apply: Any) -> Any:
        return lambda self, gradients, parameters: apply(
            self, tree_map(lambda gradient: 1.01 * gradient, gradients), parameters
        )

    replace(patch, AdamW, "apply_gradients", wrap)


def betas_ignored(patch: pytest.MonkeyPatch) -> None:
    """Let AdamW take 0.99 for its second beta."""

    def wrap(init: Any) -> Any:
        return lambda self, rate, **settings: init(self, rate, **{**settings, "betas": [0.9, 0.99]})

    replace(patch, AdamW, "__init__", wrap)


def rate_ignored(patch: pytest.MonkeyPatch) -> None:
    """Keep the rate at its peak under any schedule."""
    patch.setattr(optimizers, "schedule", lambda config: config.train.learning_rate)


def rate_not_applied(patch: pytest.MonkeyPatch) -> None:
    """Move parameters by half of what the stated rate gives."""

    def wrap(apply: Any) -> Any:
        return lambda self, gradient, parameter, state: (
            parameter + (apply(self, gradient, parameter, state) - parameter) / 2
        )

    replace(patch, AdamW, "apply_single", wrap)


def frozen_weight_nudged(patch: pytest.MonkeyPatch) -> None:
    """Change one frozen weight by a millionth, once training is over."""

    def wrap(train: Any) -> Any:
        def nudged(**arguments: Any) -> None:
            train(**arguments)
            layer = arguments["model"].layers[0].self_attn.q_proj.linear
            layer.weight = layer.weight * (1 + 1e-6)

        return nudged

    replace(patch, trainer, "train", wrap)


def adapter_frozen(patch: pytest.MonkeyPatch) -> None:
    """Leave one adapter out of training."""

    def wrap(attach: Any) -> Any:
        def attached(self: methods.MlxLora, model: Any) -> None:
            attach(self, model)
            model.layers[0].mlp.up_proj.freeze()

        return attached

    replace(patch, methods.MlxLora, "attach", wrap)


def scale_ignored(patch: pytest.MonkeyPatch) -> None:
    """Let every adapter have mlx-lm's default scale of 20."""

    def wrap(convert: Any) -> Any:
        return lambda model, layers, config, **rest: convert(
            model, layers, {**config, "scale": 20.0}, **rest
        )

    replace(patch, methods, "linear_to_lora_layers", wrap)


def checkpointing_ignored(patch: pytest.MonkeyPatch) -> None:
    """Let mlx-lm's gradient checkpointing do nothing."""
    patch.setattr(trainer, "grad_checkpoint", lambda layer: None)


def nothing_quantized(patch: pytest.MonkeyPatch) -> None:
    """Let the quantizer return the model as it came."""
    patch.setattr(Affine, "store", lambda self, model, config: (model, config))


def nothing_cast(patch: pytest.MonkeyPatch) -> None:
    """Load weights in the checkpoint's float32, whatever was asked for."""
    replace(
        patch,
        loading,
        "load_trusted",
        lambda load: lambda *args, **settings: _uncast(*load(*args, **settings)),
    )


def _uncast(model: Any, config: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    model.set_dtype = lambda dtype: None
    return model, config


def tensor_not_saved(patch: pytest.MonkeyPatch) -> None:
    """Save all tensors but one."""

    def wrap(save: Any) -> Any:
        return lambda path, tensors: save(path, dict(list(tensors.items())[:-1]))

    replace(patch, mx, "save_safetensors", wrap)


FAULTS: Mapping[str, tuple[Callable[[pytest.MonkeyPatch], None], dict[str, object], set[str]]] = {
    "label left out": (label_left_out, {}, {"labels"}),
    "loss halved": (loss_halved, {}, {"first_loss", "step_losses", "gradient"}),
    "gradient scaled": (gradient_scaled, {}, {"gradient"}),
    "betas ignored": (betas_ignored, {}, {"optimizer_update"}),
    "rate ignored": (rate_ignored, {"scheduler": "linear"}, {"learning_rate"}),
    "rate not applied": (rate_not_applied, {}, {"optimizer_update"}),
    "frozen weight nudged": (frozen_weight_nudged, {}, {"frozen"}),
    "adapter frozen": (adapter_frozen, {}, {"trainable", "adapter_scale"}),
    "scale ignored": (scale_ignored, {}, {"adapter_scale", "adapter_formula", "reload"}),
    "checkpointing ignored": (
        checkpointing_ignored,
        {"train__gradient_checkpointing": True},
        {"gradient_checkpointing"},
    ),
    "nothing quantized": (
        nothing_quantized,
        {"quantizer": "mlx-int8"},
        {"stored_bits", "base_weights", "logit_error", "stored_states"},
    ),
    "nothing cast": (nothing_cast, {"precision": "bf16"}, {"stored_bits", "precision"}),
    "tensor not saved": (tensor_not_saved, {}, {"reload"}),
}


@pytest.mark.each_time(2)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named(name: str, run_small: RunSmall, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sabotaged cell runs to its end, and fails in what the fault touches alone."""
    sabotage, settings, checks = FAULTS[name]
    sabotage(monkeypatch)
    assert run_small(backend="mlx", **settings).failed == checks


def test_a_transient_allocation_shows(
    compose_small: ComposeSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 MB that live for a moment while training are in the allocator's peak, once."""
    size = 100_000_000
    _, config = compose_small(backend="mlx")

    def peak() -> Memory:
        engine = mlx_engine.Engine(config)
        engine.begin()
        base = engine.describe(engine.original())
        return engine.allocator_peak(base, prepare(config, engine.tokenizer), tmp_path)

    honest = peak()

    def wrap(batches: Any) -> Any:
        def wasteful(*args: Any, **kwargs: Any) -> Any:
            for batch in batches(*args, **kwargs):
                mx.eval(mx.zeros((size,), dtype=mx.uint8) + 1)
                yield batch

        return wasteful

    replace(monkeypatch, trainer, "iterate_batches", wrap)
    assert 0 < honest.bytes < size / 2
    assert peak().bytes == pytest.approx(size, rel=0.1)
