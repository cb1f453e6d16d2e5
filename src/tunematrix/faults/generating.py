"""Faults in how texts are drawn, and in what a cache of keys and values gives back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from transformers import GenerationMixin, LlamaModel
from transformers.cache_utils import DynamicLayer
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced

PROCESSORS = (GenerationMixin, "_get_logits_processor")
"""What lists the processors of logits of a call."""
NUCLEUS = 0.9
COLD = 0.8
PENALTY = 1.2
SHORT = 40
LIKELIEST = 50
LEAST = 0.05


@fault("generation", replaces=PROCESSORS, fitted=True)
def nucleus_left_on(
    original: Any, model: Any, generation_config: Any, *args: Any, **kwargs: Any
) -> Any:
    """Draw from the likeliest tokens that make up 90 % alone, though all were asked for.

    Stands for a checkpoint's generation_config whose top_p fills in what a call leaves open.
    """
    processors = original(model, generation_config, *args, **kwargs)
    if generation_config.do_sample:
        processors.append(TopPLogitsWarper(NUCLEUS))
    return processors


@fault("generation", replaces=PROCESSORS, fitted=True)
def colder_than_asked(
    original: Any, model: Any, generation_config: Any, *args: Any, **kwargs: Any
) -> Any:
    """Divide logits by 0.8 on top of the temperature that was asked for.

    Stands for a server's default temperature, and for one that is applied twice.
    """
    processors = original(model, generation_config, *args, **kwargs)
    if generation_config.do_sample:
        processors.append(TemperatureLogitsWarper(COLD))
    return processors


@fault("generation", replaces=PROCESSORS, fitted=True)
def penalty_left_on(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Make tokens that the text has already less likely, drawn or not.

    Stands for a repetition penalty in a checkpoint's generation_config, which nobody asked for
    (PrimeIntellect-ai/prime-rl#886).
    """
    processors = original(*args, **kwargs)
    processors.append(RepetitionPenaltyLogitsProcessor(PENALTY))
    return processors


@fault("generation", replaces=(LlamaModel, "forward"))
def positions_off_beside_cache(original: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
    """Give each token after cached ones the position after its own.

    Stands for positions that are made without what is cached (huggingface/transformers#15736).
    """
    cached, positions = kwargs.get("past_key_values"), kwargs.get("position_ids")
    if cached is not None and positions is not None and cached.get_seq_length():
        kwargs["position_ids"] = positions + 1
    return original(model, *args, **kwargs)


@fault("generation", replaces=(DynamicLayer, "update"))
def oldest_token_forgotten(
    original: Any, layer: Any, keys: Any, values: Any, *args: Any, **kwargs: Any
) -> Any:
    """Blank the oldest key and value of each layer once they have been cached.

    Stands for caches of a fixed size that evict one token too early.
    """
    found = original(layer, keys, values, *args, **kwargs)
    if keys.shape[-2] == 1:
        for kept in found:
            kept[..., 0, :] = 0
    return found


@fault("generation", replaces=(DynamicLayer, "update"))
def cache_in_eight_bits(
    original: Any, layer: Any, keys: Any, values: Any, *args: Any, **kwargs: Any
) -> Any:
    """Keep keys and values in 8 bits with one scale a tensor.

    Stands for caches that are quantized by a default: most tokens stay what they were.
    """
    return original(layer, _rounded(keys), _rounded(values), *args, **kwargs)


@fault("generation")
def seed_not_taken(config: Configuration) -> Iterator[None]:
    """Draw tokens by a generator of one's own, whatever was seeded.

    Stands for servers and samplers that keep a generator from one request to the next.
    """
    own = torch.Generator().manual_seed(0)

    def wrap(original: Any) -> Any:
        return lambda weights, **given: original(weights, **{**given, "generator": own})

    with replaced(torch, "multinomial", wrap):
        yield


@fault("generation", replaces=(torch, "multinomial"))
def likeliest_token_drawn(original: Any, weights: Any, *, call: int, **given: Any) -> Any:
    """Take the likeliest token for every third draw.

    Stands for speculative decoding that accepts what a greedy draft proposes.
    """
    drawn = original(weights, **given)
    return drawn if call % 3 else weights.argmax(dim=-1, keepdim=True)


@fault("generation", replaces=(GenerationMixin, "generate"))
def first_words_masked(original: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
    """Let attention pass over a prompt's first token, in greedy and sampled texts alike.

    Stands for masks that take a first token for padding, as where bos, eos and pad are one.
    """
    mask = kwargs["attention_mask"].clone()
    mask.scatter_(1, mask.argmax(dim=1, keepdim=True), 0)  # behind the padding
    return original(model, *args, **{**kwargs, "attention_mask": mask})


@fault("generation", replaces=(GenerationMixin, "generate"))
def shorter_than_asked(original: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
    """End every text after 40 tokens at most, whatever the call says.

    Stands for a checkpoint's generation_config or a server's default that wins over the call.
    """
    return original(model, *args, **{**kwargs, "max_new_tokens": SHORT})


@fault("generation", replaces=PROCESSORS)
def rare_tokens_never_drawn(
    original: Any, model: Any, generation_config: Any, *args: Any, **kwargs: Any
) -> Any:
    """Draw from the 50 likeliest tokens alone, the default of older releases: hardly another text.

    Stands for `top_k=50`, which a generation_config without the key once meant.
    """
    processors = original(model, generation_config, *args, **kwargs)
    if generation_config.do_sample:
        processors.append(TopKLogitsWarper(LIKELIEST))
    return processors


@fault("generation", replaces=PROCESSORS)
def least_probability_left_on(
    original: Any, model: Any, generation_config: Any, *args: Any, **kwargs: Any
) -> Any:
    """Leave out tokens with less than a twentieth of the likeliest one's probability.

    Stands for a `min_p` that nobody asked for: 0.05 is the default of llama.cpp's samplers.
    """
    processors = original(model, generation_config, *args, **kwargs)
    if generation_config.do_sample:
        processors.append(MinPLogitsWarper(LEAST))
    return processors


def _rounded(tensor: torch.Tensor) -> torch.Tensor:
    scale = tensor.abs().max() / 127
    return (tensor / scale).round() * scale
