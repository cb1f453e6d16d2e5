"""What a cell writes down of a model: how it is stored, what it says, what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tunematrix.evidence.events.adapter import AdapterShare


class StoredLayer(NamedTuple):
    """What one linear layer of the base takes.

    Attributes:
        name: of the layer; shape: of its weight, (out, in).
        bytes: stored, with all quantization state, the bias left out.
    """

    name: str
    shape: tuple[int, int]
    bytes: int


@dataclass(frozen=True)
class Storage:
    """How the base's linear layers are stored after loading and quantizing.

    Attributes:
        layers: one entry per linear layer of the base.
        total_bytes: stored bytes of the whole model.
    """

    layers: tuple[StoredLayer, ...]
    total_bytes: int


class LayerWeight(NamedTuple):
    """The weight that a linear layer stands for, or one group of it, beside the checkpoint's.

    Attributes:
        name: of the layer.
        error: relative, in norms; of a group, of the group's own norm.
        due: the error that rounding it plainly to the quantizer's format makes; 0 where nothing
            is quantized.
    """

    name: str
    error: float
    due: float


class LayerProduct(NamedTuple):
    """What a linear layer computes, beside the weight that it stands for.

    Attributes:
        name: of the layer.
        output: error of its products (relative, in norms).
        gradient: error of the gradients that it hands back (the same).
    """

    name: str
    output: float
    gradient: float


class LoadedParameter(NamedTuple):
    """A parameter beside the checkpoint's; its `error` is relative, in norms."""

    name: str
    error: float


class StoredState(NamedTuple):
    """One kind of values that a quantizer keeps beside its weights, of all layers together.

    Attributes:
        name: of the first layer, and of what it keeps there.
        bits: of the longest significand among them.
    """

    name: str
    bits: int


class GroupScales(NamedTuple):
    """How far the scales of a quantized layer's groups are off, read off its stored weights.

    Attributes:
        name: of the layer.
        worst: that of the group that is furthest off (relative, signed).
        mean: all groups together (the same).
        spread: standard deviation over the groups; groups: how many there are.
        ends: how far the ends of a group's range are from what they are stored as (steps between
            two levels, on average over the groups); 0 where they needn't be on a level.
    """

    name: str
    worst: float
    mean: float
    spread: float = 0.0
    groups: int = 0
    ends: float = 0.0


@dataclass(frozen=True)
class BaseWeights:
    """What a freshly loaded base's weights are beside its checkpoint's, read from the file itself.

    Errors are relative, in norms; a tensor that can't be compared at all has an infinite one.

    Attributes:
        layers: each linear layer that the checkpoint holds under its own name.
        products: of the same layers.
        others: every other parameter that the checkpoint holds.
        groups: of each quantized layer, the group that is furthest off its plain rounding.
        parts: norms and rotary positions beside their definitions, for rows drawn at random.
        states: scales and offsets in float32 of quantized layers.
        rows: norms, by how much rows that they give are too large or small as a whole: so much as
            each of their values, rounded by itself to so much, would make them.
        scales: of the groups of each quantized layer.
    """

    layers: tuple[LayerWeight, ...]
    products: tuple[LayerProduct, ...]
    others: tuple[LoadedParameter, ...]
    groups: tuple[LayerWeight, ...] = ()
    parts: tuple[LoadedParameter, ...] = ()
    states: tuple[StoredState, ...] = ()
    rows: tuple[LoadedParameter, ...] = ()
    scales: tuple[GroupScales, ...] = ()


@dataclass(frozen=True)
class LogitError:
    """Relative error of the loaded base's logits against the fp32 original.

    Attributes:
        relative: norm of the difference over norm of the reference, on real positions.
    """

    relative: float


@dataclass(frozen=True)
class Evaluation:
    """Loss on held-out stories of the target dialect, in nats per token.

    Attributes:
        when: "before" or "after" training.
        loss: of the model.
        floor: exact negative log-probability of the same stories under the grammar.
    """

    when: str
    loss: float
    floor: float


@dataclass(frozen=True)
class Reload:
    """Saved, loaded again from files alone, run on the same inputs.

    Attributes:
        max_difference: largest absolute logit difference to the trained model.
        changed_by_training: largest absolute logit difference of the trained model to the base.
    """

    max_difference: float
    changed_by_training: float


@dataclass(frozen=True)
class TokenizerRules:
    """The loaded tokenizer beside the file that it was loaded from.

    Attributes:
        texts: how many were made tokens of, by both; 0 where the checkpoint has no tokenizer.json.
        others: "TEXT: COUNT tokens, COUNT by the file" of each that came out otherwise.
    """

    texts: int
    others: tuple[str, ...]


@dataclass(frozen=True)
class SavedSettings:
    """What a saved model's configuration files say otherwise than its base's.

    Attributes:
        folder: name of what was saved: "model" or "merged".
        changed: "FILE: KEY OLD → NEW" of each.
    """

    folder: str
    changed: tuple[str, ...]


class AdapterUse(NamedTuple):
    """One thing that people do with adapters.

    Attributes:
        what: was done, as the end of "it was …".
        difference: largest of a logit to what it must be then.
    """

    what: str
    difference: float


@dataclass(frozen=True)
class AdapterUses:
    """A saved adapter, loaded, switched off and on, exchanged, renamed and combined.

    Attributes:
        uses: each of them.
        changed_by_training: as in `Reload`.
    """

    uses: tuple[AdapterUse, ...]
    changed_by_training: float


@dataclass(frozen=True)
class Merged:
    """The saved adapter merged into a fresh base, saved, loaded again, run on the same inputs.

    Attributes:
        max_difference: largest absolute logit difference to the trained model.
        changed_by_training: as in `Reload`.
        shares: how much of the adapter is in each layer; empty where it is no PEFT's or mlx-lm's.
    """

    max_difference: float
    changed_by_training: float
    shares: tuple[AdapterShare, ...] = ()


@dataclass(frozen=True)
class Generation:
    """One text for each prompt, all generated in one way and scored exactly by the grammar.

    Attributes:
        seed: of the first text's draws; None where the likeliest token is always taken.
        cache: whether keys and values of earlier positions were kept.
        texts: a digest of each text's tokens, in the order of the prompts.
        stories: how many came to their end and are, with their prompt, stories of the dialect.
        nats: mean exact negative log-probability of what those added to their prompts; nan where
            there is none.
        entropy: what `nats` is on average for stories that the grammar itself draws.
    """

    seed: int | None
    cache: bool
    texts: tuple[str, ...]
    stories: int
    nats: float
    entropy: float


@dataclass(frozen=True)
class DrawScores:
    """By what the library drew the tokens of a few texts, beside logits / temperature.

    Attributes:
        temperature: that was asked for.
        gaps: of each text, the largest difference of a score, of what lies between the largest
            score and the middle one.
    """

    temperature: float
    gaps: tuple[float, ...]


@dataclass(frozen=True)
class Parity:
    """How far an engine is from the recorded truth of one quantity.

    Attributes:
        quantity: logits, gradients or trace.
        difference: the largest; of logits in their own unit, of gradients relative to the largest
            entry of the same parameter's, of losses in nats.
        where: the place of that difference.
        values: figures of this engine itself, to be compared between machines.
    """

    quantity: str
    difference: float
    where: str
    values: dict[str, float]


@dataclass(frozen=True)
class Transfer:
    """A recorded adapter, loaded here, run on the inputs of its own engine.

    Attributes:
        source: format that it was saved in, "peft" or "mlx-lm".
        difference: largest absolute logit difference to what its own engine gave.
        changed_by_training: largest absolute logit difference of that to the base.
    """

    source: str
    difference: float
    changed_by_training: float
