"""A real fleet in a project of tiny recipes: a scheduler and workers, each a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

MARK = "TUNEMATRIX_TESTED_BY"
OTHER = """
[tool.tunematrix.environments.other]
description = "Nothing but Python, once more"
backends = ["other"]
"""
BACKENDS = "capabilities:\n  backend: {plain: true, other: true}\n"


@dataclass
class Member:
    """A scheduler or a worker.

    Attributes:
        process: its own; log: what it says.
    """

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        """What it has said so far."""
        return self.log.read_text(encoding="utf-8")

    def end(self, number: int = signal.SIGKILL) -> int:
        """Send it a signal, and wait for its end; return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


@dataclass
class Fleet:
    """A scheduler and its workers.

    Attributes:
        project: whose; certificates: their folder. port: of the scheduler, once it has one.
        prelude: Python that runs before each scheduler, which may make it less patient.
    """

    project: Project
    certificates: Path
    port: int = 0
    prelude: str = ""
    members: list[Member] = field(default_factory=list)
    # Not those of the project, whose runs have to leave nothing running.
    variables: dict[str, str] = field(default_factory=lambda: {MARK: uuid.uuid4().hex})

    @property
    def address(self) -> str:
        """Where its scheduler is."""
        return f"127.0.0.1:{self.port}"

    @property
    def options(self) -> tuple[str, ...]:
        """What a run needs to find it."""
        return f"--fleet={self.address}", f"--certificates={self.certificates}"

    def start(self, *arguments: str, awaited: str, prelude: str = "", **variables: str) -> Member:
        """Start a verb with the fleet's certificates; return when it says what is awaited."""
        log = self.project.root / f"member-{uuid.uuid4().hex[:8]}.log"
        begin = f"{prelude}\nimport runpy\nrunpy.run_module('tunematrix', run_name='__main__')"
        command = [sys.executable, "-c", begin, *arguments]
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*command, f"--certificates={self.certificates}"],
                cwd=self.project.root,
                env={**os.environ, **self.variables, **variables},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                process_group=0,
            )
        member = Member(process, log)
        self.members.append(member)
        self.project.wait_for(lambda: awaited in member.said or process.poll() is not None)
        assert awaited in member.said, member.said
        return member

    def scheduler(self) -> Member:
        """Start a scheduler; a second one at the port of the first."""
        own = ("scheduler", "--host=127.0.0.1", f"--port={self.port}")
        member = self.start(*own, awaited="for members", prelude=self.prelude)
        match = re.search(r"scheduler at tls://127.0.0.1:(\d+)", member.said)
        assert match is not None
        self.port = int(match[1])
        return member

    def worker(self, environment: str = "plain", *more: str, **variables: str) -> Member:
        """Start a worker, and wait until it is at work."""
        own = ("worker", self.address, "-e", environment, *more)
        return self.start(*own, awaited="at work for", **variables)

    def end(self) -> None:
        """End all of it."""
        for member in reversed(self.members):
            if member.process.poll() is None:
                member.end(signal.SIGTERM)


@contextmanager
def fleet_of(project: Project, prelude: str = "") -> Iterator[Fleet]:
    """Make a project one with two environments, and start a scheduler for it.

    `prelude` is Python that runs before it.
    """
    file = project.root / "pyproject.toml"
    file.write_text(file.read_text(encoding="utf-8") + OTHER, encoding="utf-8")
    plain = (project.root / "conf/backend/plain.yaml").read_text(encoding="utf-8")
    project.write("conf/backend/other.yaml", plain.replace("name: plain", "name: other"))
    certificates = project.root / "certificates"
    made = project.tunematrix("certificates", str(certificates))
    assert made.code == 0, made.text
    fleet = Fleet(project, certificates, prelude=prelude)
    try:
        fleet.scheduler()
        yield fleet
    finally:
        fleet.end()
