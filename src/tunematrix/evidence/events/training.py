"""What a cell writes down of its training: steps, what was logged, and what they changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Trainable:
    """Which parameters may change, computed from the base's own layers, not from the adapter.

    Attributes:
        expected: names of parameters that the method must train.
        actual: names of parameters that require a gradient.
    """

    expected: tuple[str, ...]
    actual: tuple[str, ...]


@dataclass(frozen=True)
class Draws:
    """Where random numbers come from as training begins.

    Attributes:
        seed: that the default generator was last given.
    """

    seed: int


@dataclass(frozen=True)
class OptimizerStep:
    """One step, read from the optimizer itself.

    Attributes:
        step: from 0.
        learning_rates: of each parameter group with trainable parameters, before the step.
        gradient_norm: 2-norm over all gradients as the optimizer gets them (after clipping);
            None where the trainer keeps them to itself.
        deviation: largest |parameter - independently recomputed parameter| over the largest
            recomputed update; None when this step was not audited.
        gradient_error: largest difference of the gradients that the optimizer got to those
            recomputed from the step's own batches, over the largest, of the worst tensor; None
            when this step was not audited, or leaves no trace of them.
        stretch: which optimizer took it, from 0; a resumed run has made itself another.
        moved: share of the elements with a gradient other than 0 that differ after the step; None
            when this step was not audited, or its rate was 0.
        expected_norm: 2-norm over all recomputed gradients, before clipping; None as for
            `gradient_error`, or where some weren't recomputed.
        gradient_factor: there, what the recomputed ones are to be multiplied by to come nearest to
            those that the optimizer got.
        gradient_lost: by how much the recomputed ones differ, as `gradient_error`, from those of a
            loss that is as small as a trainer's, where float16 loses small gradients.
    """

    step: int
    learning_rates: tuple[float, ...]
    gradient_norm: float | None
    deviation: float | None
    gradient_error: float | None = None
    stretch: int = 0
    moved: float | None = None
    expected_norm: float | None = None
    gradient_factor: float | None = None
    gradient_lost: float = 0.0


@dataclass(frozen=True)
class LoggedStep:
    """What the trainer logged.

    Attributes:
        step: as the trainer counts: from 1, or from 0 in some logs of foreign trainers.
        loss: nats per token; None when that line has no loss.
        gradient_norm: before clipping, None when not logged.
        learning_rate: None when not logged.
        rate_is_next: whether this trainer logs the rate of the step after this one, by design.
    """

    step: int
    loss: float | None
    gradient_norm: float | None = None
    learning_rate: float | None = None
    rate_is_next: bool = False


@dataclass(frozen=True)
class LoggedEvaluation:
    """What the trainer logged of an evaluation of its own.

    Attributes:
        step: from 1, as trainers count.
        loss: nats per token, as the trainer averages them.
    """

    step: int
    loss: float


class AttentionKernels(NamedTuple):
    """How often a kernel computed attention in one pass, and in how many layers there is one."""

    calls: int
    layers: int


@dataclass(frozen=True)
class Compute:
    """Dtypes that were really used.

    Attributes:
        products: dtypes of the matrix products inside the base's linear layers in training; where
            a kernel hides its products, dtypes of what left those layers.
        trainable: dtypes of the trained parameters.
        attention: of the first pass; None for models that have no kernel for it.
    """

    products: tuple[str, ...]
    trainable: tuple[str, ...]
    attention: AttentionKernels | None = None


@dataclass(frozen=True)
class Compiled:
    """How a model ran that was to be compiled, seen in what its passes left for the backward pass.

    Attributes:
        passes: in training; idle: those of them without any compiled graph.
        products: matrix products of a pass that isn't compiled, as a meter makes it; None without.
        outside: most products of one pass that lay outside of compiled graphs.
    """

    passes: int
    idle: int
    products: int | None
    outside: int


@dataclass(frozen=True)
class Changed:
    """What training changed, tensor by tensor, bit by bit.

    Attributes:
        moved: trained parameters that differ from their initial value.
        still: trained parameters that don't.
        zero: trained parameters that are all zero at the end.
        altered: frozen tensors (quantization state included) whose bits differ: must be empty.
        frozen: how many frozen tensors were compared.
    """

    moved: tuple[str, ...]
    still: tuple[str, ...]
    zero: tuple[str, ...]
    altered: tuple[str, ...]
    frozen: int


@dataclass(frozen=True)
class Arrivals:
    """What backward passes brought to the trained parameters, in all steps.

    Attributes:
        steps: that were looked at.
        error: largest difference of what the optimizer got to their sum, but for one factor for all
            tensors of a step, over the largest value of the worst tensor.
        place: where that was.
        idle: tensors in float32 that a step left bit by bit as they were, although they had a
            gradient and a rate; each with its step, from 0.
    """

    steps: int
    error: float
    place: str
    idle: tuple[str, ...]


@dataclass(frozen=True)
class Continuity:
    """Whether anything but the optimizer changed what trains.

    Attributes:
        links: how often parameters were compared: from the start to the first step, from each step
            to the next, and from the last to the end of training.
        broken: what differed and where, such as "moments before step 3", from 0.
        ends_as: where training ends with its best checkpoint: the steps, from 1, after which all
            was, to the bit, as it is in the end; None elsewhere.
    """

    links: int
    broken: tuple[str, ...]
    ends_as: tuple[int, ...] | None = None


@dataclass(frozen=True)
class TrainedDtypes:
    """Dtypes of what trains, as the optimizer had it in its first steps.

    Attributes:
        parameters: of trained parameters.
        gradients: of their gradients; empty where the trainer keeps them to itself.
        state: of the optimizer's moments; empty where it keeps none.
    """

    parameters: tuple[str, ...]
    gradients: tuple[str, ...]
    state: tuple[str, ...]


@dataclass(frozen=True)
class Rank:
    """What one of several processes did; each of them writes its own.

    Attributes:
        rank: which one, from 0; processes: how many there are; both as its process group says.
        collectives: what its process group communicates with, "gloo" or "nccl".
        rows: sequences that it trained on.
        first_rows: a digest of each sequence of its first step.
        parameters: a digest of all trained parameters at the end, bit by bit.
        held: elements of the trained parameters that it kept while training; whole: of all.
        uneven, strayed: of its own rows, as in `Coverage`.
    """

    rank: int
    processes: int
    collectives: str
    rows: int
    first_rows: tuple[str, ...]
    parameters: str
    held: int
    whole: int
    uneven: int = 0
    strayed: int | None = None
