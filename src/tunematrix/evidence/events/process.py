"""What a cell writes down of its process, its device and its memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunematrix.errors import Obstacle


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
class Switches:
    """What determines figures for the whole process, so that any library may change it for all.

    Attributes:
        begun: name to value, as the backend left them before anything was loaded.
        steps: optimizer steps after which they were read again.
        changed: name to (step from 0, value), where they first differed.
    """

    begun: dict[str, str]
    steps: int
    changed: dict[str, tuple[int, str]]


@dataclass(frozen=True)
class Phase:
    """A named stretch of the run has ended, without raising.

    Attributes:
        name: what the recipe calls it, such as load, train or reload.
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
class Refused:
    """Something that the run needs can't be used where it ran; `Raised` follows.

    Attributes:
        obstacle: what was looked for, what was found, what to do.
    """

    obstacle: Obstacle


@dataclass(frozen=True)
class BrokenFault:
    """A planted fault raised itself, so that the run says nothing of the stack; `Raised` follows.

    Attributes:
        name: of the fault; when: "on its way in" or "on its way out".
    """

    name: str
    when: str


@dataclass(frozen=True)
class BrokenMeter:
    """A meter of tunematrix raised, so that the run says nothing of the stack; `Raised` follows.

    Attributes:
        name: of the meter.
        message: what it raised, and what to do.
    """

    name: str
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
class Held:
    """What stays in memory beside a model and its gradients.

    Attributes:
        when: "before" training, "during" it (at the end of its last step), or "after" it, with the
            trainer gone.
        beside: bytes of all other arrays of the framework that anything holds on to.
    """

    when: str
    beside: int


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
