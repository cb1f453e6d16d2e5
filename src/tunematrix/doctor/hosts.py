"""Environments × this machine → whether each can be had here, and how far it is built."""

from __future__ import annotations

import sys
from pathlib import Path

from tunematrix.doctor.findings import EnvironmentFinding, Virtualenv
from tunematrix.environments.building import UNFINISHED, Order
from tunematrix.environments.host import Probe, command_refusal, refusal, this_machine
from tunematrix.environments.table import Environment
from tunematrix.matrix.groups import Groups


def look_at(environment: Environment, root: Path, groups: Groups) -> EnvironmentFinding:
    """Hold an environment's probe against this machine; run the command it names, if any."""
    machine = this_machine([environment.host])
    virtualenv = root / ".nox" / environment.name
    obstacle = refusal(environment.host, machine) or command_refusal(environment.host)
    return EnvironmentFinding(
        name=environment.name,
        description=environment.description,
        possible=None if environment.host == Probe() else obstacle is None,
        obstacle=obstacle,
        command=_command(environment, root, groups),
        virtualenv=_state(root, virtualenv),
        active=virtualenv.is_dir() and virtualenv.samefile(sys.prefix),
    )


def is_worth_a_line(environment: Environment, root: Path) -> bool:
    """Whether an environment is looked at unasked: a variant only once someone has built it."""
    return environment.variant == "locked" or (root / ".nox" / environment.name).is_dir()


def _state(root: Path, virtualenv: Path) -> Virtualenv:
    if not virtualenv.is_dir():
        return "absent"
    # One that nothing was installed in, and one that was left half built, need the same command.
    return "unfinished" if Order(root, virtualenv, ()).state in ("", UNFINISHED) else "built"


def _command(environment: Environment, root: Path, groups: Groups) -> str:
    """Return what builds an environment; without a noxfile it is what a virtualenv takes."""
    if (root / "noxfile.py").is_file():
        return f"nox -s {environment.name}"
    options = groups.axes["backend"]
    installs = [options[name].declared.install for name in environment.backends if name in options]
    return "; ".join(dict.fromkeys(filter(None, installs)))
