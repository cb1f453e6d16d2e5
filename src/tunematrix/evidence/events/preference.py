"""What a cell writes down of preferences: how often one is held, and the losses that teach it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preference:
    """How a model decides between two stories that the grammar makes equally likely.

    Attributes:
        when: "before" or "after" training.
        rate: mean probability of the preferred one, of the two, over held-out pairs.
        pairs: how many.
    """

    when: str
    rate: float
    pairs: int


@dataclass(frozen=True)
class PreferenceLoss:
    """DPO's loss of one step, recomputed by its definition from the batches that were trained on.

    Attributes:
        step: optimizer step, from 0.
        loss: nats per pair, under the weights before the step.
        chosen, rejected: mean log-probability of those completions under the same weights.
        reference_chosen, reference_rejected: the same under a freshly loaded base.
        gradient_norm: 2-norm of the loss's gradient; None after the first step.
    """

    step: int
    loss: float
    chosen: float
    rejected: float
    reference_chosen: float
    reference_rejected: float
    gradient_norm: float | None


@dataclass(frozen=True)
class LoggedPreference:
    """What the trainer logged of a step's log-probabilities.

    Attributes:
        step: from 1, as trainers count.
        chosen, rejected: mean log-probability of those completions.
        chosen_reward, rejected_reward: beta times their mean log-ratio to the reference.
    """

    step: int
    chosen: float
    rejected: float
    chosen_reward: float
    rejected_reward: float
