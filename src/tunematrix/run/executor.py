"""The seam at which a cell may run elsewhere: folders with what to do go in, an Exit comes out.

What a folder holds is relative to it, so an executor may carry it to another machine, and bring
it back with what the run has left. `run.local` has those of this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from tunematrix.evidence import Exit
from tunematrix.evidence.run_dir import RunDir

Poll = Callable[[float], None]
"""Called about ten times a second with the seconds that have passed."""


class Executor(Protocol):
    """Where cells run: as many at a time as there are threads that call it, once it is started."""

    def start(self) -> None:
        """Do what takes its time before the first cell; nothing where that is done.

        Raises:
            MachineProblem: no process can be started.
        """

    def missing(self, modules: Sequence[str]) -> tuple[str, ...]:
        """Return those of these modules that can't be imported where the cells run."""

    def run(self, run_dir: RunDir, timeout: float, poll: Poll | None = None) -> Exit:
        """Run the cell of a folder; return when nothing of it is left running.

        Args:
            run_dir: with cell.json written; gets the cell's evidence.
            timeout: seconds that it may take, without what the executor does once for all.
            poll: of whoever waits.

        Raises:
            MachineProblem: no process can be started.
            KeyboardInterrupt: the user's, after the cell has been ended.
        """

    def call(
        self, name: str, arguments: Mapping[str, object], timeout: float, run_dir: RunDir
    ) -> Exit:
        """Call `module:function` with keyword arguments in a process like a cell's.

        For what has to be ready before any clock starts, such as compiling an extension. A
        `cache_dir` among the arguments lies relative to the folder, which gets the logs and what
        the function raised.

        Raises:
            MachineProblem: no process can be started.
            KeyboardInterrupt: the user's, after the process has been ended.
        """

    def interrupt(self) -> None:
        """End all that other threads run here; each of them gets a KeyboardInterrupt."""

    def describe(self) -> dict[str, object]:
        """Say how cells are isolated, why, and what was imported ahead in how many seconds."""

    def close(self) -> None:
        """End all that was started for cells; the executor can't be used again."""
