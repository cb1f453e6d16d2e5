"""Faults of the steps of a pipeline on MLX, each in the library that would have it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx.optimizers import AdamW
from mlx_lm.tuner import trainer

from tunematrix.configuration import Configuration
from tunematrix.faults.patching import replaced
from tunematrix.stack.engines.mlx import methods, optimizers
from tunematrix.stack.steps.mlx import answering, serve, training


def _zeroed(name: str, tensor: mx.array) -> mx.array:
    return mx.zeros_like(tensor) if name.endswith("lora_b") else tensor


def saves_what_it_began_with(config: Configuration) -> Any:
    """A trained adapter is written with one factor as new ones have it."""

    def make(save: Callable[..., None]) -> Any:
        return lambda path, tensors, *args, **kwargs: save(
            path, {name: _zeroed(name, one) for name, one in tensors.items()}, *args, **kwargs
        )

    return replaced(mx, "save_safetensors", make)


def saves_one_tensor_less(config: Configuration) -> Any:
    """The last tensor isn't written, which nobody notices who loads what there is."""

    def make(save: Callable[..., None]) -> Any:
        return lambda path, tensors, *args, **kwargs: save(
            path, dict(list(tensors.items())[:-1]), *args, **kwargs
        )

    return replaced(mx, "save_safetensors", make)


def names_another_scale(config: Configuration) -> Any:
    """What is written beside an adapter has mlx-lm's default scale of 20."""

    def make(save: Callable[..., None]) -> Any:
        def wrong(config: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            named = config.get("lora_parameters")
            other = {"lora_parameters": {**named, "scale": 20.0}} if named else {}
            save({**config, **other}, *args, **kwargs)

        return wrong

    return replaced(methods, "save_config", make)


def steps_do_nothing(config: Configuration) -> Any:
    """The optimizer's updates are left out."""
    return replaced(
        AdamW, "apply_single", lambda _: lambda self, gradient, parameter, state: parameter
    )


def learns_next_but_one(config: Configuration) -> Any:
    """The labels of the loss are shifted by one more."""

    def make(loss: Any) -> Any:
        def wrong(model: Any, batch: mx.array, lengths: mx.array) -> Any:
            ahead = mx.concatenate([batch[:, 1:], batch[:, -1:]], axis=1)
            return loss(lambda inputs: model(batch[:, :-1]), ahead, lengths - 1)

        return wrong

    return replaced(trainer, "default_loss", make)


def counts_twice_the_loss(config: Configuration) -> Any:
    """The loss, and so what is logged of it, is twice as large as it is."""

    def make(loss: Any) -> Any:
        def wrong(*args: Any) -> tuple[mx.array, mx.array]:
            value, tokens = loss(*args)
            return 2 * value, tokens

        return wrong

    return replaced(trainer, "default_loss", make)


def counts_the_padding(config: Configuration) -> Any:
    """mlx-lm's own lengths reach its loss, which then counts a token after each text."""
    return replaced(training, "_exact_batches", lambda _: trainer.iterate_batches)


def most_steps_do_nothing(config: Configuration) -> Any:
    """Of the optimizer's steps, only the first is taken."""
    return replaced(
        optimizers,
        "rate_of",
        lambda make: lambda *told: lambda step: mx.where(step < 1, make(*told)(step), 0.0),
    )


def loads_no_adapter(config: Configuration) -> Any:
    """Layers are put there for an adapter, whose tensors aren't read."""

    def make(load: Any) -> Any:
        def wrong(model: Any, path: str) -> Any:
            load(model, path)
            for _, module in model.named_modules():
                if hasattr(module, "lora_b"):
                    module.lora_b = mx.zeros_like(module.lora_b)
            return model

        return wrong

    return replaced(answering, "load_adapters", make)


def merges_into_the_base(config: Configuration) -> Any:
    """An adapter that is loaded changes the weights below it, too."""

    def make(load: Any) -> Any:
        def wrong(model: Any, path: str) -> Any:
            load(model, path)
            for _, module in model.named_modules():
                if hasattr(module, "lora_b"):
                    module.linear.weight = module.fuse().weight
            return model

        return wrong

    return replaced(answering, "load_adapters", make)


def ignores_padding(config: Configuration) -> Any:
    """Prompts in a batch see the padding before them."""
    from mlx_lm.models.cache import BatchKVCache

    def make(mask: Any) -> Any:
        def wrong(self: Any, *args: Any, **kwargs: Any) -> Any:
            before = self.left_padding
            self.left_padding = mx.zeros_like(before)
            try:
                return mask(self, *args, **kwargs)
            finally:
                self.left_padding = before

        return wrong

    return replaced(BatchKVCache, "make_mask", make)


def rounds_its_cache(config: Configuration) -> Any:
    """Keys and values that are kept are stored in 8 bits."""

    def make(step: Any) -> Any:
        return lambda *args, **kwargs: step(
            *args, **{**kwargs, "kv_bits": 8, "kv_group_size": 32, "quantized_kv_start": 0}
        )

    return replaced(answering, "generate_step", make)


def serves_without_its_adapter(config: Configuration) -> Any:
    """The server is asked for the folder by its name, under which it knows no adapter."""

    def make(host: Any) -> Any:
        return lambda **given: host(**{**given, "model": str})

    return replaced(serve, "Host", make)


def serves_another_template(config: Configuration) -> Any:
    """The server writes chats otherwise than the model was trained with."""

    def make(command: Any) -> Any:
        template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
        return lambda *args: (*command(*args), "--chat-template", template)

    return replaced(serve, "command", make)
