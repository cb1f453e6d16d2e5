"""What is seen of the steps that are looked at closely."""

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
