"""What doctor finds, as data: three lists, and what of them an environment can't do without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tunematrix.environments.table import Environment
from tunematrix.errors import Obstacle

SCHEMA_VERSION = 2

Virtualenv = Literal["built", "unfinished", "absent"]
State = Literal["works", "broken", "not installed", "not here"]
Outcome = Literal["agrees", "differs", "unsupported", "unavailable"]


@dataclass(frozen=True)
class EnvironmentFinding:
    """Whether this machine can have an environment.

    Attributes:
        name: of the environment; description: one line.
        possible: whether this machine can have it; None where no table says what that takes.
        obstacle: what was looked for, what was found and what to do; None where nothing rules it
            out.
        command: builds the environment and proves it.
        virtualenv: how far it is built here.
        active: whether it is the one that this runs in.
    """

    name: str
    description: str
    possible: bool | None
    obstacle: Obstacle | None
    command: str
    virtualenv: Virtualenv
    active: bool


@dataclass(frozen=True)
class BackendFinding:
    """Whether a backend works in this virtualenv.

    Attributes:
        name: of the backend; description: one line.
        state: works where its device was claimed and multiplied, broken where that went wrong;
            not here where this machine lacks the device, and not installed where a library is
            missing, which both aren't tried.
        missing: modules that it requires and that aren't installed.
        versions: distribution to version, of what it requires.
        device: what its own process found: name, memory_bytes, driver, runtime and the like.
        dtypes: those that the device multiplies in, with the right product.
        refused: dtype to what went wrong, for the others.
        reason: why it doesn't work; fix: what to do about it, a command where there is one.
        seconds: that its process took; None when it wasn't tried.
        evidence: the folder of a trial that went wrong, relative to the project.
    """

    name: str
    description: str
    state: State
    missing: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    device: Mapping[str, Any] = field(default_factory=dict)
    dtypes: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    fix: str = ""
    seconds: float | None = None
    evidence: str = ""


@dataclass(frozen=True)
class QuantizerFinding:
    """What is declared of a quantizer on a backend, held against what was observed.

    Attributes:
        quantizer, backend: the pair.
        outcome: agrees or differs where it was tried; unsupported where a no is declared, and
            unavailable where something is missing here, which both aren't tried.
        reason: why it isn't "agrees"; link: where a declared no is tracked; fix: what to do.
        bits_per_weight: stored, in the layer that is farthest from theory; None if not measured.
        seconds: that its process took; None when it wasn't tried.
        tools: what it compiles with, to where that lies; None for what isn't here.
        evidence: the folder of a trial that differs, relative to the project.
    """

    quantizer: str
    backend: str
    outcome: Outcome
    reason: str = ""
    link: str = ""
    fix: str = ""
    bits_per_weight: float | None = None
    seconds: float | None = None
    tools: Mapping[str, str | None] = field(default_factory=dict)
    evidence: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All that was found.

    Attributes:
        machine: in words; python: its version; virtualenv: the folder that this runs in.
        environments, backends, quantizers: the three lists.
        environment: the one that was named; empty when none was.
        problems: what keeps that one from working, a sentence each.
        partial: whether only a selection of what it has was looked at.
    """

    machine: str
    python: str
    virtualenv: str
    environments: tuple[EnvironmentFinding, ...]
    backends: tuple[BackendFinding, ...]
    quantizers: tuple[QuantizerFinding, ...]
    environment: str = ""
    problems: tuple[str, ...] = ()
    partial: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return plain data; what the keys mean stands in docs/doctor.md."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}


def problems(
    wanted: Environment,
    environments: tuple[EnvironmentFinding, ...],
    backends: tuple[BackendFinding, ...],
    quantizers: tuple[QuantizerFinding, ...],
    missing: tuple[str, ...],
) -> Iterator[str]:
    """Yield what keeps an environment from working: all that it requires has to.

    Args:
        wanted: the environment. environments, backends, quantizers: what was found of it.
        missing: those of its `requires` that aren't installed.
    """
    if any(one.name == wanted.name and one.possible is False for one in environments):
        yield f"environment {wanted.name}: this machine can't have it"
    for backend in backends:
        if backend.state != "works":
            yield f"backend {backend.name}: {backend.reason}"
    if missing:
        modules = ", ".join(missing)
        yield f"environment {wanted.name} requires {modules}; install it with: nox -s {wanted.name}"
    for pair in quantizers:
        if pair.outcome == "differs":
            yield f"quantizer {pair.quantizer} on {pair.backend}: {pair.reason}"
