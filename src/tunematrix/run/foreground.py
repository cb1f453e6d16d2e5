"""The executor for breakpoints: a cell runs in this process, nothing redirected, without limit."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence

from tunematrix.evidence import Exit
from tunematrix.evidence.run_dir import RunDir
from tunematrix.matrix.requirements import missing_modules
from tunematrix.run import worker
from tunematrix.run.executor import Executor, Poll


class Foreground(Executor):
    """Cells in this process: what they print is shown, and a debugger gets the terminal."""

    def start(self) -> None:
        """Do nothing: this process runs."""

    def missing(self, modules: Sequence[str]) -> tuple[str, ...]:
        """Return those of these modules that can't be imported here."""
        return missing_modules(modules)

    def run(self, run_dir: RunDir, timeout: float, poll: Poll | None = None) -> Exit:
        """Run a cell here; what it raises is printed, and is code 1."""
        return _ended(lambda: worker.execute(run_dir))

    def call(
        self, name: str, arguments: Mapping[str, object], timeout: float, run_dir: RunDir
    ) -> Exit:
        """Call a function here; what it raises is printed, and is code 1."""
        return _ended(lambda: worker.prepare(name, arguments, run_dir))

    def interrupt(self) -> None:
        """Do nothing: no other thread runs a cell here."""

    def describe(self) -> dict[str, object]:
        """Say that cells run in this process."""
        return {"isolation": "foreground", "reason": "it was asked for"}

    def close(self) -> None:
        """Do nothing: nothing was started."""


def _ended(body: Callable[[], None]) -> Exit:
    started = time.perf_counter()
    code = 0
    try:
        body()
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - whatever it raises, pytest.skip too, is the cell's
        traceback.print_exc()
        code = 1
    seconds = time.perf_counter() - started
    return Exit(code, None, False, (), seconds, isolation="foreground")
