"""What enters a model while a cell trains: micro-batches, their losses, the rows that were seen."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class MicroBatch:
    """One forward pass in training mode.

    Attributes:
        step: optimizer step it belongs to, from 0.
        rows: sequences in it; columns: positions of each, padding included; on the mean, where they
            stand one after the other.
        tokens: positions that are not padding.
        audited: rows that were held against the data; 0 when this batch was not sampled.
        faithful: audited rows that are rows of the data, counted exactly as the data form says.
        wrong: what is wrong with the others, and how often. cut: faithful rows that are shorter
            than their text, as the configuration allows.
        texts: tokens of the data's shortest and longest text, where rows are packed of them.
        layer_calls: how often decoder layers ran, forward and recomputed; each count once.
        kept: inputs of those insides in memory when the forward pass has ended; stale: in memory
            when the next pass begins. None where the framework doesn't show it.
        beside: passes in training mode, but without a gradient, between the one before it and
            this; None where the framework doesn't show it.
        counted: tokens that its loss counts. nats: their sum, as the pass itself gave them; None
            where its output doesn't show it.
    """

    step: int
    rows: int
    columns: int
    tokens: int
    audited: int
    faithful: int
    layer_calls: tuple[int, ...]
    kept: int | None = None
    stale: int | None = None
    wrong: dict[str, int] = field(default_factory=dict)
    cut: int = 0
    texts: tuple[int, int] | None = None
    beside: int | None = None
    counted: int = 0
    nats: float | None = None


@dataclass(frozen=True)
class StepLoss:
    """Cross-entropy of a step's batches, computed from the logits by definition.

    Attributes:
        step: from 0.
        loss: nats per counted token, under the weights before the step.
        tokens: counted tokens of all micro-batches of that step, in all processes.
    """

    step: int
    loss: float
    tokens: int


@dataclass(frozen=True)
class EvaluationPasses:
    """What entered the model in an evaluation of the trainer's own, and its loss by definition.

    Attributes:
        step: as in `LoggedEvaluation`.
        by_rows, by_tokens: nats per token, in evaluation mode; means of the batches' means, weighed
            by their rows, and by their counted tokens.
        rows: sequences in it; faithful: those that are held out, and labelled as they should be.
        held_out: sequences that it was given to evaluate.
        training: passes for which the model was in training mode.
    """

    step: int
    by_rows: float
    by_tokens: float
    rows: int
    faithful: int
    held_out: int
    training: int


@dataclass(frozen=True)
class Coverage:
    """Which training rows were seen.

    Attributes:
        rows: in the data; seen: rows that were trained on, each time counted.
        uneven: distinct rows that were seen more or less often than whole passes over the data
            explain.
        successive: share of seen rows that were followed by the next one of the data.
        strayed: rows that came where the seed's order has another one; None where the loop's rule
            isn't known.
    """

    rows: int
    seen: int
    uneven: int
    successive: float
    strayed: int | None = None


@dataclass(frozen=True)
class Throughput:
    """Tokens that entered the model in training, padding excluded, over training wall time."""

    tokens: int
    seconds: float
