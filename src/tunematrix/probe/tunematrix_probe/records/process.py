"""A process that the probe is in, its models, and what couldn't be looked at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ProbeStarted:
    """PyTorch was imported in a process, and the probe is in it; the first line of its file.

    Attributes:
        pid: of the process; parent: that which started it.
        began: seconds since 1970; program: what Python runs, without its arguments.
        python: its version; versions: of PyTorch and of the libraries around it, by name.
        rank: among the processes that train together, world_size: how many they are to be, by the
            environment; None and 1 where none are spoken of.
        loader_worker: number of the data loader's worker that this process is.
    """

    pid: int
    parent: int
    began: float
    program: str
    python: str
    versions: dict[str, str]
    rank: int | None = None
    world_size: int = 1
    loader_worker: int | None = None


@dataclass(frozen=True)
class ProbeEnded:
    """The last line of a process that ended by itself; one that was killed has none.

    Attributes:
        seconds: since `ProbeStarted`; how: exit, exception or stopped (by whoever had started the
            probe); error: type of the exception that nobody caught, and its text.
        backward_passes: that were seen; forward_passes: of models, with gradients to come.
    """

    seconds: float
    how: str
    error: str = ""
    backward_passes: int = 0
    forward_passes: int = 0


@dataclass(frozen=True)
class SwitchedOff:
    """Something can't be looked at: from here on, or (`once`) in this step.

    Attributes:
        part: which of the probe's observers: optimizer, update, gradient, loss, batch, mode, zero,
            clipping, schedule, precision, weights, saving, ranks, workers, memory.
        reason: as a sentence; place: file and line of the error, where there was one.
        is_error: whether the probe itself fell over, and not only met what it can't look into.
    """

    part: str
    reason: str
    place: str = ""
    step: int | None = None
    once: bool = False
    is_error: bool = False


@dataclass(frozen=True)
class SeenModel:
    """A model that was called from outside of any other one, with gradients to come.

    Attributes:
        name: of its class, without what wraps it; wrappers: DDP, FSDP, compiled and so on.
        parameters: tensors, trainable: of them; elements and trainable_elements: numbers in them.
        dtypes: elements by dtype; trainable_dtypes: of those that train; devices: by device type.
        accelerators: device types that this process could use.
        tied: names of one and the same tensor, together.
        adapters: matrices B of LoRA; dropouts: modules that drop something (p > 0).
        untied: whether the model's configuration ties its output to its input embeddings, and they
            are two tensors.
        batch_norms: modules whose training mode changes what they compute, apart from dropout.
        checkpointing: whether activations are recomputed; quantized: tensors in integers.
        unaudited: why its gradients can't be recomputed; empty where they can.
    """

    model: int
    name: str
    wrappers: tuple[str, ...]
    parameters: int
    trainable: int
    elements: int
    trainable_elements: int
    dtypes: dict[str, int]
    trainable_dtypes: dict[str, int]
    devices: dict[str, int]
    accelerators: tuple[str, ...]
    tied: tuple[tuple[str, ...], ...] = ()
    adapters: int = 0
    dropouts: int = 0
    batch_norms: int = 0
    checkpointing: bool = False
    quantized: int = 0
    untied: bool = False
    unaudited: str = ""


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
