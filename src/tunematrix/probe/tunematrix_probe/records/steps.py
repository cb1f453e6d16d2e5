"""What is seen of every step, at little cost: its optimizer, its batches, its schedule."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SeenGroup:
    """A parameter group: tensors, the numbers in them, and what it sets for them."""

    tensors: int
    elements: int
    learning_rate: float
    weight_decay: float


@dataclass(frozen=True)
class SeenOptimizer:
    """An optimizer at its first step.

    Attributes:
        name: of its class, with its module; rule: whose formula it must follow: adamw, adam, sgd;
            empty where that isn't known.
    """

    optimizer: int
    name: str
    rule: str
    groups: tuple[SeenGroup, ...]


@dataclass(frozen=True)
class SeenClip:
    """A call that clips gradients, since the step before.

    Attributes:
        way: norm or value; limit: what it was given.
        norm: 2-norm (or the norm asked for) that it returned; tensors: with a gradient, that it
            got; ours: of these, tensors of the optimizer that steps next.
        scaled: whether the gradients were still multiplied by a GradScaler's factor.
        before_backward: whether no backward pass had been made since the step before.
    """

    way: str
    limit: float
    norm: float | None
    tensors: int
    ours: int
    scaled: bool
    before_backward: bool


@dataclass(frozen=True)
class SeenScaler:
    """A GradScaler in this step: its factor, and whether it was used on the loss and unscaled."""

    factor: float
    enabled: bool
    scaled_loss: bool
    unscaled: bool


@dataclass(frozen=True)
class SeenStep:
    """One step of an optimizer, looked at cheaply.

    Attributes:
        step: from 0; optimizer: whose.
        learning_rates: and weight_decays: of each group, as the step begins.
        with_gradient: tensors whose gradient is there; without_gradient: trainable ones where none
            is; zero_gradient: there, but all zeros; None where that wasn't looked at.
        gradient_norm: 2-norm of what reaches the optimizer, after clipping; audited steps alone.
        loss: mean of what the backward passes began from, as given (scaled, divided); None: none.
        model_loss: mean of the losses that the model itself returned.
        passes: backward passes since the step before; discarded: backward passes whose gradients
            were set to zero before any optimizer had used them; forwards: of models that train.
        rows: sequences, positions: tokens with padding, tokens: without, labelled: with a label;
            None where the batch shows none.
        kept: tensors whose gradient of the step before was still there, untouched, when the first
            backward pass began; zeroed: calls of zero_grad since the step before; zeroed_late: of
            these, after a backward pass.
        schedule_calls: of learning-rate schedulers of this optimizer since the step before.
        evaluations: forward passes without gradients since the step before; evaluations_training:
            of these, in training mode with something in the model that this changes (dropout, batch
            norm).
        training: share of the forward passes whose model was in training mode; dropouts_off: most
            dropout modules (p > 0) that were in evaluation mode in one of them.
        clips: calls that clip; scaler: where one is in use.
        seconds: since the step before (None for the first); memory: bytes that the process or its
            accelerator holds as the step ends; audited: whether this step was looked at closely.
    """

    optimizer: int
    step: int
    learning_rates: tuple[float, ...]
    weight_decays: tuple[float, ...]
    with_gradient: int
    without_gradient: int
    zero_gradient: int | None
    gradient_norm: float | None
    loss: float | None
    model_loss: float | None
    passes: int
    discarded: int
    forwards: int
    rows: int | None
    positions: int | None
    tokens: int | None
    labelled: int | None
    kept: int
    zeroed: int
    zeroed_late: int
    schedule_calls: int
    evaluations: int
    evaluations_training: int
    training: float | None
    dropouts_off: int
    clips: tuple[SeenClip, ...]
    scaler: SeenScaler | None
    seconds: float | None
    memory: int
    audited: bool


@dataclass(frozen=True)
class SeenBatch:
    """What one forward pass with gradients to come was given, where it holds tokens.

    Attributes:
        step: steps of any optimizer so far; pass_number: of forward passes since then, from 0.
        rows, columns: of input_ids; tokens: positions that the attention mask counts.
        digests: of each row without its padding, sixteen hexadecimal digits.
        labelled: positions with a label; padding_labelled: of these, masked out as padding;
            equal_labels: labels that are their own position's input (HF's way, shifted inside);
            next_labels: labels that are the next position's input (shifted outside).
        ends: rows whose last real token is the model's end token; ends_labelled: of these, those
            with a label there; None where no end token is known.
        positions_restart: rows whose position_ids begin at 0 more than once: packed.
        training: whether the model was in training mode.
        tokenized: False where the batch holds no tokens; rows are then those of the first tensor.
    """

    model: int
    step: int
    pass_number: int
    rows: int
    columns: int
    tokens: int
    digests: tuple[str, ...]
    labelled: int | None = None
    padding_labelled: int | None = None
    equal_labels: int | None = None
    next_labels: int | None = None
    ends: int | None = None
    ends_labelled: int | None = None
    positions_restart: int = 0
    training: bool = True
    tokenized: bool = True


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
