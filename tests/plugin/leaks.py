"""Recipes that say all they know of credentials, each by another way; copied as a module."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

from tunematrix.configuration import Configuration
from tunematrix.evidence.events import Determinants
from tunematrix.evidence.log import EventLog

NAMES = os.environ.get("LEAKED", "").split()
SAID = [f"{name} is {os.environ.get(name, '')}" for name in NAMES]
TEXT = " | ".join(SAID)


class Careless:
    """Shows what it holds, as many objects of libraries do."""

    def __init__(self) -> None:
        self.values = [os.environ[name] for name in NAMES]

    def __repr__(self) -> str:
        return f"Careless({self.values!r})"


def printed(config: Configuration, events: EventLog, output_dir: Path) -> None:
    """Prints them: as they are, as Python and JSON have them, as progress and as warnings."""
    for said in SAID:
        print(said)
        print(f"\r{said}", end="", file=sys.stderr)
        warnings.warn(said, stacklevel=1)
        logging.getLogger("leaks").warning(said)
    print()
    print(Careless())
    print(json.dumps(SAID), json.dumps(SAID, ensure_ascii=False), flush=True)
    events.write(Determinants({said: [said] for said in SAID}))


def raised(config: Configuration, events: EventLog, output_dir: Path) -> None:
    """Raises from another exception, both with all of them."""
    try:
        raise KeyError(Careless())
    except KeyError as error:
        raise RuntimeError(TEXT) from error


def dying(config: Configuration, events: EventLog, output_dir: Path) -> None:
    """Says them last, and aborts as native code does."""
    print(TEXT, file=sys.stderr, flush=True)
    os.abort()


def left(config: Configuration, events: EventLog, output_dir: Path) -> None:
    """Leaves a process with them on its command line."""
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", *SAID])
    time.sleep(0.3)


def hung(config: Configuration, events: EventLog, output_dir: Path) -> None:
    """Runs past its time, and has said them before."""
    print(TEXT, file=sys.stderr, flush=True)
    time.sleep(600)


def measured(config: Configuration, events: EventLog, output_dir: Path) -> None:
    """Does nothing; what its configuration holds is enough."""


def get_ready(cache_dir: str) -> None:
    """Fails to prepare, and says them."""
    print(TEXT, file=sys.stderr)
    raise RuntimeError(TEXT)


def trainer() -> None:
    """A command that echoes how it was called, logs, saves and raises."""
    print(sys.argv)
    print(TEXT, file=sys.stderr)
    output = Path(sys.argv[sys.argv.index("--output-dir") + 1])
    lines = [{"step": step, "loss": 2.0 - step / 10, "note": TEXT} for step in range(1, 9)]
    (output / "trainer_logs.json").write_text(json.dumps(lines), encoding="utf-8")
    for name in NAMES:
        (output / f"{name}-{''.join(filter(str.isalnum, os.environ[name]))}"[:200]).touch()
    raise SystemExit(TEXT)


if __name__ == "__main__":
    trainer()
