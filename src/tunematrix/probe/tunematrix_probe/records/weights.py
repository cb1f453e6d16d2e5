"""Which weights train, move, agree between processes and are saved, and evaluations."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SeenCoverage:
    """Which parameters should train and which do, over all models and optimizers so far.

    Attributes:
        trainable: tensors of the models seen that require a gradient.
        missing: of these, those in no group of any optimizer seen; missing_names, missing_elements.
        foreign: tensors in groups that belong to no model seen and never had a gradient; replaced:
            of these, those beside which a missing one has the same shape: the optimizer was built
            before the model was made anew.
        missing_alone: of the missing, those of models none of whose tensors is in a group.
        idle: in a group and of a model, but no step so far found a gradient; idle_names.
        idle_before: of the idle, those whose module was called, with gradients to come, before
            another one of its model that got some: something between the two cuts the graph.
        frozen_in_groups: tensors in groups that require no gradient.
    """

    step: int
    trainable: int
    missing: int
    missing_elements: int
    missing_names: tuple[str, ...]
    missing_alone: int
    foreign: int
    replaced: int
    idle: int
    idle_names: tuple[str, ...]
    idle_before: int
    frozen_in_groups: int


@dataclass(frozen=True)
class SeenMoved:
    """What has changed since the model was first seen, by a digest of each tensor.

    Attributes:
        last: whether the process ends; otherwise it is how things stand after this step.
        trained: tensors in a group whose gradient wasn't zero in a step that was looked at closely
            (1 for all together, where the groups hold copies of unknown parts of them);
            moved: of these; unmoved_names; rounded_away: of the unmoved, those whose updates are
            smaller than their dtype can add.
        adapters: matrices B of LoRA that require a gradient; adapters_zero: of these, all zeros;
            adapters_frozen_zero: those that are all zeros and require none.
        frozen: floating-point tensors that require no gradient and stand in no group, and
            frozen_changed, _names: of these. Quantized ones are repacked on the way, by libraries.
        sampled: whether some digests are of a part of a tensor.
    """

    model: int
    step: int
    last: bool
    trained: int
    moved: int
    unmoved_names: tuple[str, ...]
    rounded_away: int
    adapters: int
    adapters_zero: int
    adapters_frozen_zero: int
    adapters_zero_names: tuple[str, ...]
    frozen: int
    frozen_changed: int
    frozen_changed_names: tuple[str, ...]
    sampled: bool


@dataclass(frozen=True)
class SeenWeights:
    """Digests to compare over processes that train together, before and after a step.

    Attributes:
        weights: of all trainable tensors together, as the step ends; gradients: of what reaches the
            optimizer. Processes that average theirs have the same bits in both.
        whole: whether each process holds all of each tensor (False: sharded, so they may differ).
        replicated: trainable tensors that aren't sharded where others are; replicated_weights: the
            digest of these.
        rank, world_size, backend: of torch.distributed as it is; backend empty: not in use.
    """

    optimizer: int
    step: int
    weights: str
    gradients: str
    whole: bool
    rank: int
    world_size: int
    backend: str
    replicated: int = 0
    replicated_weights: str = ""


@dataclass(frozen=True)
class SeenEvaluation:
    """Forward passes without gradients of one model so far, one after the other or on their own.

    Attributes:
        passes: all of them; training: in training mode; effective: of these, with dropout or batch
            norm in that mode; longest: most in a row without a backward pass between them;
            longest_effective: of those of the line before.
    """

    model: int
    step: int
    passes: int
    training: int
    effective: int
    longest: int
    longest_effective: int


@dataclass(frozen=True)
class SeenSaved:
    """Tensors that were saved, beside those of the models in memory at that moment.

    Attributes:
        name: of the file, without its folder; way: torch.save or safetensors.
        tensors: in it; matched: with a parameter of a model seen, by name and shape.
        differing: of the matched, other values than in memory; differing_names; as_at_start: of
            the differing, those that are what the model began with.
        not_finite: tensors with nan or inf.
        trained: tensors that train; missing: of these, without a match; missing_names.
        cast: matched tensors that were saved in another dtype, and compared in that.
    """

    name: str
    way: str
    step: int
    tensors: int
    matched: int
    differing: int
    differing_names: tuple[str, ...]
    as_at_start: int
    not_finite: int
    trained: int
    missing: int
    missing_names: tuple[str, ...]
    cast: int
