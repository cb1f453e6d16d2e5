"""Machines are plain values here; commands are real ones."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from tunematrix.environments.host import Machine, Probe, command_refusal, refusal, this_machine
from tunematrix.environments.table import read_environments

PC = Machine("linux", "x86_64", glibc="2.36")
GPU_PC = Machine("linux", "x86_64", glibc="2.36", present=frozenset({"nvidia-smi"}))
ARM_SERVER = Machine(
    "linux", "aarch64", glibc="2.35", present=frozenset({"nvidia-smi", "/dev/nvidiactl"})
)
CONTAINER = Machine("linux", "x86_64", glibc="2.31", present=frozenset({"/dev/nvidiactl"}))
WSL = Machine("linux", "x86_64", glibc="2.39", present=frozenset({"/dev/dxg"}))
OLD = Machine("linux", "x86_64", glibc="2.17")
MUSL = Machine("linux", "x86_64")
MAC = Machine("darwin", "arm64", macos="15.1")
OLD_MAC = Machine("darwin", "arm64", macos="13.6.1")
INTEL_MAC = Machine("darwin", "x86_64", macos="14.0")
WINDOWS = Machine("windows", "AMD64")

HOSTS = {name: row.host for name, row in read_environments(Path(__file__).parent, []).items()}


@pytest.mark.parametrize(
    ("machine", "can"),
    [
        (PC, "cpu mlx"),
        (GPU_PC, "cpu cuda mlx"),
        (ARM_SERVER, "cpu cuda mlx"),
        (CONTAINER, "cpu cuda"),
        (WSL, "cpu cuda mlx"),
        (OLD, ""),
        (MUSL, ""),
        (MAC, "cpu mps mlx"),
        (OLD_MAC, ""),
        (INTEL_MAC, ""),
        (WINDOWS, ""),
    ],
    ids=str,
)
def test_which_environments_a_machine_can_have(machine: Machine, can: str) -> None:
    """The probes of this repository's table, over machines that there are."""
    locked = ("cpu", "cuda", "mps", "mlx")
    assert [name for name in locked if refusal(HOSTS[name], machine) is None] == can.split()


def test_variants_are_probed_alike() -> None:
    """What cuda can't have, cuda-latest can't have."""
    assert refusal(HOSTS["cuda-latest"], PC) == refusal(HOSTS["cuda"], PC) is not None


@pytest.mark.parametrize(
    ("name", "machine", "found"),
    [
        ("cuda", PC, "Linux on x86_64 with glibc 2.36, but none of nvidia-smi, /dev/nvidiactl, "),
        ("mlx", CONTAINER, "Linux on x86_64 with glibc 2.31\n"),
        ("cpu", MUSL, "Linux on x86_64 with no glibc\n"),
        ("mps", OLD_MAC, "macOS 13.6.1 on arm64\n"),
    ],
)
def test_a_refusal_has_three_parts(name: str, machine: Machine, found: str) -> None:
    """What was looked for, what was found, what to do."""
    refused = refusal(HOSTS[name], machine)
    assert refused is not None
    assert refused.looked_for == HOSTS[name].looking_for
    assert f"{refused.found}\n".startswith(found)
    assert refused.to_do == HOSTS[name].advice


def answering(code: str, proof: str = "GPU 0") -> Probe:
    """A probe whose command is a piece of Python."""
    return Probe(looking_for="a GPU", command=(sys.executable, "-c", code), proof=proof)


def test_a_command_that_proves_the_device() -> None:
    """Its output holds the proof and it ends well."""
    assert command_refusal(answering("print('GPU 0: H200')")) is None


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('No devices were found')", "ended with 0 and said: No devices were found"),
        ("print('GPU 0'); raise SystemExit(6)", "ended with 6 and said: GPU 0"),
        ("raise SystemExit('driver mismatch')", "ended with 1 and said: driver mismatch"),
        ("", "ended with 0 and said: nothing"),
    ],
)
def test_a_command_that_disproves_it(code: str, said: str) -> None:
    """Its exit code and its last line are told."""
    refused = command_refusal(answering(code))
    assert refused is not None
    assert said in refused.found


def test_a_command_that_hangs() -> None:
    """A driver that doesn't answer is given up on."""
    started = time.monotonic()
    refused = command_refusal(answering("import time; time.sleep(60)"), patience=0.5)
    assert time.monotonic() - started < 30
    assert refused is not None
    assert "gave no answer" in refused.found


def test_a_command_that_is_missing_proves_nothing() -> None:
    """A container may have the GPU without the tools."""
    assert command_refusal(Probe(command=("no-such-tool-anywhere", "-L"), proof="GPU 0")) is None
    assert command_refusal(Probe()) is None


def test_this_machine(tmp_path: Path) -> None:
    """It has a system, an architecture, and of what is asked for only what exists."""
    here, gone = str(tmp_path), str(tmp_path / "gone")
    machine = this_machine([Probe(any_of=(here, "sh")), Probe(any_of=(gone, "no-such-tool"))])
    assert machine.present == {here, "sh"}
    assert machine.system in ("linux", "darwin")
    assert machine.architecture
    assert machine.glibc or machine.macos
