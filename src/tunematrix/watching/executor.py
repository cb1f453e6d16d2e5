"""The executor of a command line that is watched: run as it was typed, with the probe in it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tunematrix.command.devices import gpus
from tunematrix.command.executor import ended_well, exit_of, write_memory
from tunematrix.command.guarded import CommandRun, Guard, Outcome, Process
from tunematrix.evidence import Exit
from tunematrix.evidence.events import Command, Finished, LibraryLoaded, Raised
from tunematrix.evidence.log import EventLog
from tunematrix.evidence.run_dir import RunDir
from tunematrix.run.executor import Poll
from tunematrix.run.probing import probed

# Lines come when they are written; at the time limit Python says where it hangs.
_TALKATIVE = {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
INTERRUPT = signal.SIGINT.name
"""What a command is said to have ended by where the user has ended it."""
LIBRARY = "libtorch"
"""Beginning of the names of PyTorch's shared libraries; where no probe wrote, this tells why."""


class WatchedCommand:
    """Runs one command, in the folder and with the variables that it would have had.

    Args:
        words: of the command; there is one. environ: its variables, without the probe's.
    """

    def __init__(self, words: Sequence[str], environ: Mapping[str, str] = os.environ) -> None:
        self._words = tuple(words)
        self._environ = environ

    def run(self, run_dir: RunDir, timeout: float, poll: Poll) -> Exit:
        """Run it, and write down what its guard saw; see `Executor.run`.

        Ctrl-C ends the command, and not the run: what was seen until then is there to be judged.
        """
        folder = Path.cwd()
        job = CommandRun(
            processes=(self._process(run_dir),),
            folder=str(folder),
            timeout=timeout,
            gpu=bool(gpus(self._environ)),
            library=LIBRARY,
        )
        began = time.monotonic()
        with EventLog(run_dir.events) as events:
            events.write(Command(self._words, str(folder), 1, {}))
            try:
                with Guard(run_dir.path / "guard.log") as guard:
                    outcome = guard.run(job, poll)
            except KeyboardInterrupt:
                seconds = time.monotonic() - began
                return Exit(None, INTERRUPT, False, (), seconds, isolation="command")
            _write(outcome, self._words[0], events)
        return exit_of(outcome)

    def _process(self, run_dir: RunDir) -> Process:
        variables = {**probed(self._environ, run_dir.path), **_TALKATIVE}
        return Process(self._words, variables, str(run_dir.stdout), str(run_dir.stderr))


def _write(outcome: Outcome, program: str, events: EventLog) -> None:
    write_memory(outcome, events)
    if outcome.loaded is not None:
        events.write(LibraryLoaded(LIBRARY, outcome.loaded))
    if outcome.unstartable is not None:
        text = f"{program} can't be started: {outcome.unstartable}; correct the command"
        events.write(Raised("command", ("OSError", "Exception"), text))
    elif ended_well(outcome):
        events.write(Finished())
