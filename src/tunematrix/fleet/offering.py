"""A machine that becomes a worker: what doctor finds is what it offers."""

from __future__ import annotations

import platform
import secrets
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

import psutil

from tunematrix.doctor.examine import examine_devices
from tunematrix.doctor.findings import BackendFinding
from tunematrix.environments.host import this_machine
from tunematrix.errors import BadInput, MachineProblem
from tunematrix.fleet.address import Address, probe
from tunematrix.fleet.certificates import Certificates
from tunematrix.fleet.offer import Offer, identity_of, installed_here
from tunematrix.fleet.travel import Terms
from tunematrix.fleet.workplace import Workplace
from tunematrix.project import Project
from tunematrix.run.local.room import cells_at_once

TRIAL_SECONDS = 120
_NAME = 40


def offer_here(
    address: Address,
    certificates: Certificates | None,
    project: Project,
    places: int | None,
    name: str,
    say: Callable[[str], None],
) -> None:
    """Try the devices of an environment, and work for a scheduler until a signal ends that.

    Args:
        address: of the scheduler. certificates: of the fleet. project: with the environment.
        places: how many cells at once; None for as many as there is room for.
        name: of the worker; empty for one that is made up. say: takes lines.

    Raises:
        BadInput: environments are joined; or what answers is no scheduler of this fleet.
        MachineProblem: a device doesn't work, or no scheduler answers.
    """
    from tunematrix.fleet.worker import run_worker

    environment = project.environment
    if environment.parts:
        text = f"-e {environment.name}: a worker has one virtualenv, and so one environment"
        raise BadInput(f"{text}; start one for each")
    probe(address, certificates)
    chosen = _checked(name) if name else f"{environment.name}-{secrets.token_hex(2)}"
    workplace = Workplace(project, chosen, "auto", say)
    signal.signal(signal.SIGTERM, _leave)
    try:
        workplace.executor.start()
        found = examine_devices(workplace.context(Terms("doctor")), TRIAL_SECONDS)
        offer = _offer(project, chosen, places, found)
        run_worker(address, certificates, offer, workplace, say)
    finally:
        workplace.close()


def _offer(
    project: Project, name: str, places: int | None, found: Sequence[BackendFinding]
) -> Offer:
    lacking = [one for one in found if one.state != "works"]
    if len(lacking) == len(found):
        texts = [f"{one.name} can't be offered: {one.reason}; {one.fix}" for one in lacking]
        raise MachineProblem("\n".join(texts))
    backends = tuple(one.name for one in found if one.state == "works")
    gpu = any(project.groups.backend(one).gpu for one in backends)
    return Offer(
        name=name,
        environment=project.environment.name,
        backends=backends,
        places=cells_at_once(places, gpu=gpu),
        identity=identity_of(project),
        python=platform.python_version(),
        system=str(this_machine([])),
        devices={one.name: _device(one) for one in found},
        memory=psutil.virtual_memory().total,
        versions=installed_here(),
    )


def _device(found: BackendFinding) -> str:
    known = found.device.get("name") or found.device.get("device") or found.name
    return str(known) if found.state == "works" else f"{found.name}: {found.reason}"


def _checked(name: str) -> str:
    if len(name) > _NAME or not name.replace("-", "").replace("_", "").isalnum():
        text = f"--name {name}: a worker's name has letters, digits, - and _"
        raise BadInput(f"{text}, at most {_NAME} of them")
    return name


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
