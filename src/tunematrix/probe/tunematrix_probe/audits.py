"""What the probe writes of the steps that it looks at closely, and of the whole run.

Part of `records`, which says what all of them have in common.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SeenGradient:
    """The gradients that reach an optimizer beside our own, over all passes of the step.

    Our own: each forward pass made again with the same inputs and random numbers, and multiplied
    with the gradient that really arrived at its output. So it says nothing of the loss; `SeenLoss`
    does.

    Attributes:
        tensors, elements: that were compared; sampled: whether that isn't all that train.
        passes: that were recomputed; unused: passes whose output got no gradient.
        scale: how often our own goes into what reached it, by projection; due: what clipping and a
            GradScaler account for (1 without them); error: largest difference from `scale` times
            our own over the largest value, of the worst tensor; worst: its name.
        last_error: the same against the last pass alone, where there were several.
        tolerance: what the dtypes of the computation allow `error` to be.
        own, reached: the same few elements of both, for the mean over processes: where gradients
            are averaged, no process alone can tell.
    """

    optimizer: int
    step: int
    tensors: int
    elements: int
    sampled: bool
    passes: int
    unused: int
    scale: float
    due: float
    error: float
    worst: str
    last_error: float | None
    tolerance: float
    own: tuple[float, ...] = ()
    reached: tuple[float, ...] = ()


@dataclass(frozen=True)
class SeenUpdate:
    """What an optimizer did to its parameters beside its own formula, for some elements of each.

    Attributes:
        rule: the formula: adamw, adam, sgd; empty where none is known, and error is None.
        error: largest difference from it, beyond what rounding to the parameter's dtype does, over
            the largest update of the tensor; of the worst one; worst: its name.
        tensors, elements: that were looked at.
        moved: tensors of which an element changed; unmoved: with a gradient and a rate above 0, of
            which none did; unmoved_names: theirs; rounded_away: of the unmoved, those whose
            update by the formula is smaller than their dtype can add.
        not_finite: tensors with nan or inf after the step.
        changed_between: tensors that don't begin this step as the one before left them; undone: of
            these, those that are again as they were before that step; None: not looked at.
        uphill: share of the looked-at elements that moved along their gradient and not against it;
            momentum makes it more than 0, near 1 is uphill.
    """

    optimizer: int
    step: int
    rule: str
    error: float | None
    worst: str
    tensors: int
    elements: int
    moved: int
    unmoved: int
    unmoved_names: tuple[str, ...]
    rounded_away: int
    not_finite: int
    uphill: float | None
    changed_between: int | None = None
    undone: int | None = None


@dataclass(frozen=True)
class SeenLoss:
    """A language model's loss, read off the gradient that arrived at its logits.

    Of a cross-entropy that gradient is, at each position, a weight times (softmax - one-hot of the
    target): so it tells which positions count, for how much, and what their target is.

    Attributes:
        model, step, pass_number: of the forward pass, as in `SeenBatch`.
        positions: of the logits; looked_at: how many of them; counted: with a gradient.
        fits: share of the counted ones whose gradient is a cross-entropy's.
        smoothing: label smoothing that fits best.
        targets_same, targets_next, targets_second: of the counted, how many have the input of the
            same position, of the next and of that after it as target; targets_labels: those whose
            target is the next position's label as it was passed to the model.
        padding: of the counted, those whose next position is padding by the attention mask.
        missing: positions with a label for their next one that didn't count; None without labels.
        weight_least, weight_most: of the counted positions; their sum is weight_sum.
        cross_entropy: sum over the counted of weight times nats, from our own logits.
        returned: what the backward pass began from; model_loss: what the model returned. Like all
            weights, the first has a GradScaler's factor in it where there is one.
    """

    model: int
    step: int
    pass_number: int
    positions: int
    looked_at: int
    counted: int
    fits: float
    smoothing: float
    targets_same: int
    targets_next: int
    targets_second: int
    targets_labels: int | None
    padding: int | None
    missing: int | None
    weight_least: float
    weight_most: float
    weight_sum: float
    cross_entropy: float
    returned: float | None
    model_loss: float | None


@dataclass(frozen=True)
class SeenPrecision:
    """What the model's matrix products were computed in, in a recomputed forward pass.

    Attributes:
        autocast: dtype that autocast was set to around the model's call; empty where it was off.
        asked: mixed precision that accelerate (or its launcher) was asked for: no, fp16, bf16;
            empty where it isn't used.
        entered: contexts of autocast that were asked for since the start, as device:dtype, or
            device: by default, whether or not there is such a device.
        products: matrix products by the dtype of their left factor.
    """

    model: int
    step: int
    autocast: str
    asked: str
    entered: tuple[str, ...]
    products: dict[str, int]


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
        trained: tensors in a group whose gradient wasn't zero in a step that was looked at closely;
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
class SeenScheduler:
    """A learning-rate scheduler, as the process ends (or at an audited step).

    Attributes:
        name: of its class; optimizer: that it sets, None where that never stepped.
        calls: of its step; before_first: of these, before the optimizer's first step; steps: of
            the optimizer since the scheduler was built.
        by_metric: whether it waits for a metric, as ReduceLROnPlateau does.
        length: steps that it is made for, by what it was given; None where it doesn't say.
    """

    scheduler: int
    name: str
    optimizer: int | None
    calls: int
    before_first: int
    steps: int
    by_metric: bool = False
    length: int | None = None


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


@dataclass(frozen=True)
class SeenLoaderWorker:
    """A data loader's worker at its first fetch.

    Attributes:
        worker: its number, workers: how many; loader: seed that the loader drew for them all: the
            same for workers of one pass over the data.
        states: digest of each generator's state before the fetch, by name (torch, numpy, random);
            used: generators whose state the fetch changed.
    """

    worker: int
    workers: int
    loader: int
    states: dict[str, str]
    used: tuple[str, ...]
