"""Whether an environment can work on this machine and, if not, why."""

from __future__ import annotations

import platform
import shlex
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tunematrix.errors import Obstacle


@dataclass(frozen=True)
class Probe:
    """What a machine must have for an environment; what is left empty isn't asked for.

    Attributes:
        looking_for: all of it in words, for the message.
        advice: what to do on a machine that lacks it.
        machines: systems with their processors, as `uname -sm` has them in lower case:
            "linux x86_64", "linux aarch64", "darwin arm64".
        minimum_glibc: least version of the C library, on Linux.
        minimum_macos: least version of macOS, on a Mac.
        any_of: commands on PATH and absolute paths, of which at least one must exist.
        command: what proves the device where it is on PATH; it must end with 0.
        proof: text that the command's output must hold.
    """

    looking_for: str = "a supported machine"
    advice: str = "choose another environment; nox -l lists them"
    machines: tuple[str, ...] = ()
    minimum_glibc: str = ""
    minimum_macos: str = ""
    any_of: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    proof: str = ""


@dataclass(frozen=True)
class Machine:
    """What can be told of a machine without starting anything.

    Attributes:
        system: linux or darwin. architecture: as `uname -m` has it.
        glibc: version of the C library; empty where it is another. macos: empty on Linux.
        present: the commands and paths that probes name and that exist.
    """

    system: str
    architecture: str
    glibc: str = ""
    macos: str = ""
    present: frozenset[str] = frozenset()

    def __str__(self) -> str:
        """Name the machine for a message."""
        if self.system == "darwin":
            return f"macOS {self.macos} on {self.architecture}"
        library = f"glibc {self.glibc}" if self.glibc else "no glibc"
        return f"{self.system.capitalize()} on {self.architecture} with {library}"


def this_machine(probes: Iterable[Probe]) -> Machine:
    """Describe the machine that this runs on, as far as some probes ask."""
    names = {name for probe in probes for name in probe.any_of}
    name, version = platform.libc_ver()
    return Machine(
        system=platform.system().lower(),
        architecture=platform.machine(),
        glibc=version if name == "glibc" else "",
        macos=platform.mac_ver()[0],
        present=frozenset(name for name in names if _exists(name)),
    )


def refusal(probe: Probe, machine: Machine) -> Obstacle | None:
    """Return why an environment can't work on a machine, None where it may; starts nothing."""
    missing = (
        (probe.machines and f"{machine.system} {machine.architecture}" not in probe.machines)
        or (machine.system == "linux" and _older(machine.glibc, probe.minimum_glibc))
        or (machine.system == "darwin" and _older(machine.macos, probe.minimum_macos))
    )
    if missing:
        return _obstacle(probe, str(machine))
    if probe.any_of and not machine.present.intersection(probe.any_of):
        return _obstacle(probe, f"{machine}, but none of {', '.join(probe.any_of)}")
    return None


def command_refusal(probe: Probe, patience: float = 5.0) -> Obstacle | None:
    """Run the probe's command; return why its answer rules the environment out, else None.

    Where the command itself is missing nothing is ruled out: a container may be given a GPU
    without the tools to list it.

    Args:
        probe: whose command.
        patience: seconds that the command has; a driver that hangs must not hang Nox.
    """
    if not probe.command or shutil.which(probe.command[0]) is None:
        return None
    shown = f"`{shlex.join(probe.command)}`"
    try:
        ended = subprocess.run(
            probe.command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            errors="replace",
            timeout=patience,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _obstacle(probe, f"{shown} gave no answer in {patience:.0f} s")
    except OSError as problem:
        return _obstacle(probe, f"{shown} can't be run: {problem.strerror}")
    if ended.returncode == 0 and probe.proof in ended.stdout:
        return None
    said = ended.stdout.strip().splitlines() or ["nothing"]
    return _obstacle(probe, f"{shown} ended with {ended.returncode} and said: {said[-1]}")


def _exists(name: str) -> bool:
    return Path(name).exists() if name.startswith("/") else shutil.which(name) is not None


def _older(found: str, minimum: str) -> bool:
    """Whether a version is below the least one asked for; no version at all is below any."""
    return _numbers(found) < _numbers(minimum)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _obstacle(probe: Probe, found: str) -> Obstacle:
    return Obstacle(probe.looking_for, found, probe.advice)
