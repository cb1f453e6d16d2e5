"""Workers that begin at once: forks of a process that has imported all that a worker imports.

    python -m tests.bench.warm

A line of JSON on the standard input starts one, `[log, argument, ...]`; its process id comes back.
All else is as if `tunematrix worker` had been called: only the imports are shared.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil


def serve() -> None:
    """Start what is asked for, until nobody asks any more."""
    import tunematrix.fleet.offering
    import tunematrix.fleet.worker  # noqa: F401
    from tunematrix.cli import main

    for line in sys.stdin:
        log, *arguments = json.loads(line)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if (pid := os.fork()) == 0:
            os.setpgid(0, 0)
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for number in (1, 2):
                os.dup2(file, number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            sys.argv = ["tunematrix", *arguments]
            main()
            os._exit(0)
        print(pid, flush=True)


class Warm:
    """Starts workers by that process; as a context, for as long as they are wanted.

    Args:
        folder: where they run, and say what they have to say.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workers: list[int] = []
        self._begun = 0

    def __enter__(self) -> Warm:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.warm"],
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.workers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        self._process.communicate(timeout=60)

    def start(self, *arguments: str) -> int:
        """Start a worker; return its process id."""
        self._begun += 1
        log = self.folder / f"worker-{self._begun}.log"
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(log), *arguments]) + "\n")
        self._process.stdin.flush()
        self.workers.append(int(self._process.stdout.readline()))
        return self.workers[-1]

    def kill(self, place: int) -> None:
        """Kill one as a machine does that runs out of memory."""
        os.kill(self.workers.pop(place), signal.SIGKILL)

    def forget_ended(self) -> None:
        """Let go of those that have ended by themselves, such as before a scheduler was there."""
        self.workers = [pid for pid in self.workers if _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    serve()
