"""What a cell writes down while it runs: one frozen dataclass per kind of line.

`stack/` writes them, `checks/` read them, and neither knows the other. Units stand in the
names or in the `Attributes:` lists; every number is what was measured, never what was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Started:
    """The worker is up.

    Attributes:
        pid: process id of the worker.
        determinants: what determines the figures: threads, hash seed, attention, flags.
        versions: distribution name to version, of everything that computes.
    """

    pid: int
    determinants: dict[str, Any]
    versions: dict[str, str]


@dataclass(frozen=True)
class Determinants:
    """What else determines the figures, as the backend set it: threads, seed, flags."""

    values: dict[str, Any]


@dataclass(frozen=True)
class Phase:
    """A named stretch of the run has ended, without raising.

    Attributes:
        name: load, reference, attach, train, evaluate, save, reload, memory.
        seconds: wall time.
    """

    name: str
    seconds: float


@dataclass(frozen=True)
class Raised:
    """The recipe raised.

    Attributes:
        phase: the phase it was in; empty outside of all.
        exception: class names of the exception and its bases, most specific first; built-in
            ones bare ("ValueError"), others with their module ("torch.OutOfMemoryError").
        message: its text, secrets removed.
    """

    phase: str
    exception: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class Finished:
    """The recipe reached its end."""


@dataclass(frozen=True)
class Device:
    """Where tensors really were.

    Attributes:
        parameters: device type to number of parameter tensors.
        activations: device types seen in the forward passes.
    """

    parameters: dict[str, int]
    activations: tuple[str, ...]


@dataclass(frozen=True)
class Storage:
    """How the base's linear layers are stored after loading and quantizing.

    Attributes:
        layers: one entry per linear layer of the base: name, shape (out, in), stored bytes
            with all quantization state.
        total_bytes: stored bytes of the whole model.
    """

    layers: tuple[tuple[str, tuple[int, int], int], ...]
    total_bytes: int


@dataclass(frozen=True)
class LogitError:
    """Relative error of the loaded base's logits against the fp32 original.

    Attributes:
        relative: norm of the difference over norm of the reference, on real positions.
    """

    relative: float


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
class MicroBatch:
    """One forward pass in training mode.

    Attributes:
        step: optimizer step it belongs to, from 0.
        rows: sequences in it; columns: positions of each, padding included.
        tokens: positions that are not padding.
        audited: rows whose labels were decoded; 0 when this batch was not sampled.
        faithful: audited rows whose counted labels are exactly the text the data form supervises.
        layer_calls: calls of one decoder layer's insides during forward and backward.
    """

    step: int
    rows: int
    columns: int
    tokens: int
    audited: int
    faithful: int
    layer_calls: int


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
            when this step was not audited, or gradients were seen as the optimizer got them.
    """

    step: int
    learning_rates: tuple[float, ...]
    gradient_norm: float | None
    deviation: float | None
    gradient_error: float | None = None


@dataclass(frozen=True)
class FirstLoss:
    """Cross-entropy of the first step's batch, computed from the logits by definition.

    Attributes:
        loss: nats per counted token, before any update.
        tokens: counted tokens of all micro-batches of that step.
    """

    loss: float
    tokens: int


@dataclass(frozen=True)
class LoggedStep:
    """What the trainer logged.

    Attributes:
        step: from 1, as trainers count.
        loss: nats per token; None when that line has no loss.
        gradient_norm: before clipping, None when not logged.
    """

    step: int
    loss: float | None
    gradient_norm: float | None = None


@dataclass(frozen=True)
class Compute:
    """Dtypes that were really used.

    Attributes:
        products: dtypes of the matrix products inside the base's linear layers in training; where
            a kernel hides its products, dtypes of what left those layers.
        trainable: dtypes of the trained parameters.
    """

    products: tuple[str, ...]
    trainable: tuple[str, ...]


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
class AdapterScale:
    """Scaling of the adapter, measured as <base(x) removed, B A x> over <B A x, B A x>.

    Attributes:
        measured: smallest and largest over the layers looked at.
    """

    measured: tuple[float, float]


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
class Memory:
    """One memory figure.

    Attributes:
        measure: stored, allocator_peak, process_peak.
        bytes: the figure; for the peaks, growth over the level at which training began.
        method: how it was read (e.g. "VmHWM after clear_refs").
    """

    measure: str
    bytes: int
    method: str


@dataclass(frozen=True)
class Throughput:
    """Tokens that entered the model in training, padding excluded, over training wall time."""

    tokens: int
    seconds: float


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
class Merged:
    """The saved adapter merged into a fresh base, saved, loaded again, run on the same inputs.

    Attributes:
        max_difference: largest absolute logit difference to the trained model.
        changed_by_training: as in `Reload`.
    """

    max_difference: float
    changed_by_training: float


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


Event = (
    Started
    | Determinants
    | Phase
    | Raised
    | Finished
    | Device
    | Storage
    | LogitError
    | Trainable
    | MicroBatch
    | OptimizerStep
    | FirstLoss
    | LoggedStep
    | Compute
    | Changed
    | AdapterScale
    | Evaluation
    | Memory
    | Throughput
    | Reload
    | Merged
    | Generation
    | Parity
    | Transfer
)
