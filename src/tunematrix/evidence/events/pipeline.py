"""What is written down of the steps of a pipeline; `name` is the step's: sft, dpo, …"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StepBegun:
    """A step has read what it is given, and begins.

    Attributes:
        model: folder that it was given; base: folder of the base model below it.
        adapter: folder of the adapter that it begins with; empty for none.
        output_dir: folder that it writes to.
        does: what it is about to do, in a sentence for people.
    """

    name: str
    model: str
    base: str
    adapter: str
    output_dir: str
    does: str


@dataclass(frozen=True)
class StepWarning:
    """Something that a user should know, and that is no error."""

    name: str
    text: str


@dataclass(frozen=True)
class StepProblem:
    """An entry of its config can't be used; `route` leads to it, `text` says why."""

    name: str
    route: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class StepProgress:
    """So much of it is done.

    Attributes:
        done, total: in units of `what`, such as steps or prompts.
        loss: of a training step, nats per token or per pair; None for others.
        learning_rate: of that step; None for others.
    """

    name: str
    what: str
    done: int
    total: int
    loss: float | None = None
    learning_rate: float | None = None


@dataclass(frozen=True)
class StepStarted:
    """An adapter that a step trains on, held to the file that it was loaded from.

    Attributes:
        tensors: in the file; differing: of them, those that the loaded one hasn't, bit by bit.
    """

    name: str
    tensors: int
    differing: int


@dataclass(frozen=True)
class StepTrained:
    """What training came to, compared on tensors and on scores.

    Attributes:
        steps: optimizer steps at the end; resumed_at: of them, those that were there before.
        moved: trained tensors whose bits differ from those it began with; tensors: all of them.
        measure: what `before` and `after` are, over rows of its own data: "loss", mean nats per
            token; "preference", mean probability of the chosen answer of the two.
        before, after: of the model as it began, and at the end.
        logged: losses as the trainer logged them, one for each step since `resumed_at`.
    """

    name: str
    steps: int
    resumed_at: int
    moved: int
    tensors: int
    measure: str
    before: float
    after: float
    logged: tuple[float, ...]


@dataclass(frozen=True)
class StepSaved:
    """What a training step has saved, loaded again; `score` is as `after` in `StepTrained`."""

    name: str
    score: float


@dataclass(frozen=True)
class StepDone:
    """A step has ended well; `says` is the line that its user reads."""

    name: str
    seconds: float
    says: str
