"""Faults in how texts are drawn, and in what a cache of keys and values gives back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from transformers import GenerationMixin, LlamaModel
from transformers.cache_utils import DynamicLayer
from transformers.generation.logits_process import (
    LogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced

NUCLEUS = 0.9
COLD = 0.8
PENALTY = 1.2


@fault("generation")
def nucleus_left_on(config: Mapping[str, Any]) -> Iterator[None]:
    """Draw from the likeliest tokens that make up 90 % alone, though all were asked for.

    Stands for a checkpoint's generation_config whose top_p fills in what a call leaves open.
    """
    with replaced(GenerationMixin, "_get_logits_processor", _with(TopPLogitsWarper(NUCLEUS), True)):
        yield


@fault("generation")
def colder_than_asked(config: Mapping[str, Any]) -> Iterator[None]:
    """Divide logits by 0.8 on top of the temperature that was asked for.

    Stands for a server's default temperature, and for one that is applied twice.
    """
    added = _with(TemperatureLogitsWarper(COLD), True)
    with replaced(GenerationMixin, "_get_logits_processor", added):
        yield


@fault("generation")
def penalty_left_on(config: Mapping[str, Any]) -> Iterator[None]:
    """Make tokens that the text has already less likely, drawn or not.

    Stands for a repetition penalty in a checkpoint's generation_config, which nobody asked for
    (PrimeIntellect-ai/prime-rl#886).
    """
    added = _with(RepetitionPenaltyLogitsProcessor(PENALTY), False)
    with replaced(GenerationMixin, "_get_logits_processor", added):
        yield


@fault("generation")
def positions_off_beside_cache(config: Mapping[str, Any]) -> Iterator[None]:
    """Give each token after cached ones the position after its own.

    Stands for positions that are made without what is cached (huggingface/transformers#15736).
    """

    def wrap(original: Any) -> Any:
        def forward(model: Any, *args: Any, **kwargs: Any) -> Any:
            cached, positions = kwargs.get("past_key_values"), kwargs.get("position_ids")
            if cached is not None and positions is not None and cached.get_seq_length():
                kwargs["position_ids"] = positions + 1
            return original(model, *args, **kwargs)

        return forward

    with replaced(LlamaModel, "forward", wrap):
        yield


@fault("generation")
def oldest_token_forgotten(config: Mapping[str, Any]) -> Iterator[None]:
    """Blank the oldest key and value of each layer once they have been cached.

    Stands for caches of a fixed size that evict one token too early.
    """

    def wrap(original: Any) -> Any:
        def update(layer: Any, keys: Any, values: Any, *args: Any, **kwargs: Any) -> Any:
            found = original(layer, keys, values, *args, **kwargs)
            if keys.shape[-2] == 1:
                for kept in found:
                    kept[..., 0, :] = 0
            return found

        return update

    with replaced(DynamicLayer, "update", wrap):
        yield


@fault("generation")
def cache_in_eight_bits(config: Mapping[str, Any]) -> Iterator[None]:
    """Keep keys and values in 8 bits with one scale a tensor.

    Stands for caches that are quantized by a default: most tokens stay what they were.
    """

    def wrap(original: Any) -> Any:
        def update(layer: Any, keys: Any, values: Any, *args: Any, **kwargs: Any) -> Any:
            return original(layer, _rounded(keys), _rounded(values), *args, **kwargs)

        return update

    with replaced(DynamicLayer, "update", wrap):
        yield


@fault("generation")
def seed_not_taken(config: Mapping[str, Any]) -> Iterator[None]:
    """Draw tokens by a generator of one's own, whatever was seeded.

    Stands for servers and samplers that keep a generator from one request to the next.
    """
    own = torch.Generator().manual_seed(0)

    def wrap(original: Any) -> Any:
        return lambda weights, **given: original(weights, **{**given, "generator": own})

    with replaced(torch, "multinomial", wrap):
        yield


@fault("generation")
def likeliest_token_drawn(config: Mapping[str, Any]) -> Iterator[None]:
    """Take the likeliest token for every third draw.

    Stands for speculative decoding that accepts what a greedy draft proposes.
    """
    drawn = 0

    def wrap(original: Any) -> Any:
        def draw(weights: Any, **given: Any) -> Any:
            nonlocal drawn
            drawn += 1
            found = original(weights, **given)
            return found if drawn % 3 else weights.argmax(dim=-1, keepdim=True)

        return draw

    with replaced(torch, "multinomial", wrap):
        yield


@fault("generation")
def first_words_masked(config: Mapping[str, Any]) -> Iterator[None]:
    """Let attention pass over a prompt's first token, in greedy and sampled texts alike.

    Stands for masks that take a first token for padding, as where bos, eos and pad are one.
    """

    def wrap(original: Any) -> Any:
        def generate(model: Any, *args: Any, **kwargs: Any) -> Any:
            mask = kwargs["attention_mask"].clone()
            mask[:, 0] = 0
            return original(model, *args, **{**kwargs, "attention_mask": mask})

        return generate

    with replaced(GenerationMixin, "generate", wrap):
        yield


def _with(processor: LogitsProcessor, drawn_alone: bool) -> Any:
    """Return what adds a processor of logits to those of a call."""

    def wrap(original: Any) -> Any:
        def processors(model: Any, generation_config: Any, *args: Any, **kwargs: Any) -> Any:
            found = original(model, generation_config, *args, **kwargs)
            if generation_config.do_sample or not drawn_alone:
                found.append(processor)
            return found

        return processors

    return wrap


def _rounded(tensor: torch.Tensor) -> torch.Tensor:
    scale = tensor.abs().max() / 127
    return (tensor / scale).round() * scale
