"""A cell's configuration and folder → the processes that its command is, with variables."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tunematrix.command.devices import visible_devices
from tunematrix.command.guarded import Process
from tunematrix.command.template import words_of
from tunematrix.configuration import Configuration
from tunematrix.configuration.trainer import CommandSettings, Value, filled
from tunematrix.evidence.run_dir import RunDir
from tunematrix.run.probing import probed

# Lines come when they are written; Hydra and Python say where they failed or hang.
_TALKATIVE = {"PYTHONUNBUFFERED": "1", "HYDRA_FULL_ERROR": "1", "PYTHONFAULTHANDLER": "1"}
SEED = "TUNEMATRIX_SEED"
"""Variable that has a command's seed."""
HOST = "127.0.0.1"
"""Where servers and processes of a command meet: this machine alone."""


@dataclass(frozen=True)
class Invocation:
    """How a trainer is called for one cell.

    Attributes:
        config: the cell's; its `command` is set. run_dir: the cell's folder.
    """

    config: Configuration
    run_dir: RunDir

    @property
    def command(self) -> CommandSettings:
        """What is run."""
        assert self.config.command is not None, "a cell of the recipe command has one"
        return self.config.command

    @property
    def processes(self) -> int:
        """How many processes train, whoever starts them."""
        return self.config.launcher.processes

    @property
    def rank_logs(self) -> Path:
        """Where each of several processes writes what it prints."""
        return self.run_dir.path / "ranks"

    @cached_property
    def values(self) -> Mapping[str, str]:
        """What templates are filled in with."""
        command = self.command
        own = command.template.python
        return {
            "python": str(Path(command.root) / own) if own else sys.executable,
            "project_dir": command.project_dir,
            "config": command.config,
            "output_dir": str(self.run_dir.output),
            "seed": str(self.config.train.seed),
            "processes": str(self.processes),
            "rank_logs": str(self.rank_logs),
        }

    @property
    def folder(self) -> Path:
        """Where it is started."""
        return Path(self.command.root, filled(self.command.template.working_directory, self.values))

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The command, launcher first."""
        launcher = tuple(filled(word, self.values) for word in self.config.launcher.command)
        return (*launcher, *self.filled(self.command.template.command, self.config.dynamic_args))

    def filled(
        self,
        template: Sequence[str],
        arguments: Mapping[str, Value],
        more: Mapping[str, str] | None = None,
    ) -> tuple[str, ...]:
        """Return one of the trainer's templates as words, with arguments in its own style."""
        values = {**self.values, **(more or {})}
        return words_of(template, values, self.command.template.argument, arguments)

    @cached_property
    def variables(self) -> Mapping[str, str]:
        """Its variables: ours that it inherits, the trainer's own, and the devices it may see."""
        own = self.command.template.environment
        variables = {
            **os.environ,
            **_TALKATIVE,
            SEED: self.values["seed"],
            **{name: filled(value, self.values) for name, value in own.items()},
            **visible_devices(self.config.backend, max(1, self.processes)),
        }
        return variables if self.config.watch is None else probed(variables, self.run_dir.path)

    @property
    def started(self) -> tuple[Process, ...]:
        """The processes that are started."""
        out, err = str(self.run_dir.stdout), str(self.run_dir.stderr)
        if not self.config.launcher.starts_each:
            return (Process(self.words, self.variables, out, err),)
        port = str(free_port())
        processes = []
        for rank in range(self.processes):
            folder = self.rank_logs / str(rank)
            folder.mkdir(parents=True)
            variables = {
                **self.variables,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(self.processes),
                "LOCAL_WORLD_SIZE": str(self.processes),
                "MASTER_ADDR": HOST,
                "MASTER_PORT": port,
            }
            # The first one's lines are the cell's; `gather` adds what the others say as errors.
            own = out if rank == 0 else str(folder / "stdout.log")
            logs = (own, str(folder / "stderr.log"))
            processes.append(Process(self.words, variables, *logs))
        return tuple(processes)

    @property
    def stdout(self) -> Path:
        """What the process that logs has printed: the first of several."""
        own = rank_log(self.rank_logs, 0, "stdout")
        return self.run_dir.stdout if own is None else own


def rank_log(folder: Path, rank: int, stream: str) -> Path | None:
    """Return what one of several processes has printed; None where nobody kept them apart.

    torchrun makes a folder for each run and attempt; the last attempt counts.
    """
    patterns = (f"{rank}/{stream}.log", f"*/attempt_*/{rank}/{stream}.log")
    found = [path for pattern in patterns for path in folder.glob(pattern)]
    return max(found, default=None)


def free_port() -> int:
    """Return a port of the loopback device that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
