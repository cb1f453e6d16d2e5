"""Recipes that end in all the ways a cell can end; copied into each test's project."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunematrix.evidence.events import Determinants, Storage
from tunematrix.evidence.log import EventLog

Config = Mapping[str, Any]


def succeed(config: Config, events: EventLog, output_dir: Path) -> None:
    """Saves a file and says where it ran."""
    (output_dir / "result.txt").write_text("done")
    events.write(Determinants({"pid": os.getpid(), "planted": os.environ.get("PLANTED")}))


def chatter(config: Config, events: EventLog, output_dir: Path) -> None:
    """Fills stderr with lines that only look like errors."""
    print("error_rate=0.1 Traceback? no\n" * 10_000, file=sys.stderr)


def allocate(config: Config, events: EventLog, output_dir: Path) -> None:
    """Holds more memory than it returns."""
    held = bytearray(50_000_000)
    events.write(Determinants({"bytes": len(held)}))


def refuse(config: Config, events: EventLog, output_dir: Path) -> None:
    """Raises."""
    (output_dir / "half.txt").write_text("half")
    with events.phase("train"):
        raise ValueError("integers take no gradient")


def crash(config: Config, events: EventLog, output_dir: Path) -> None:
    """Dies as native code does."""
    os.kill(os.getpid(), signal.SIGSEGV)


def confuse(config: Config, events: EventLog, output_dir: Path) -> None:
    """Records what no check expects."""
    events.write(Storage((("layer", (0, 0), 1),), 1))


def leave_early(config: Config, events: EventLog, output_dir: Path) -> None:
    """Ends with 0 before its end."""
    os._exit(0)


def hang(config: Config, events: EventLog, output_dir: Path) -> None:
    """Waits for good, with a daemon that left its session."""
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    (output_dir / "hanging").touch()
    time.sleep(600)


def leave_a_child(config: Config, events: EventLog, output_dir: Path) -> None:
    """Ends well, but a process of it lives on."""
    subprocess.Popen(["sleep", "600"])


def print_a_traceback(config: Config, events: EventLog, output_dir: Path) -> None:
    """Ends well, but a thread of it died."""
    print("Traceback (most recent call last):\n  in a thread", file=sys.stderr)


def tell_secrets(config: Config, events: EventLog, output_dir: Path) -> None:
    """Says a credential everywhere a cell can, and raises it."""
    secret = os.environ["TINY_API_TOKEN"]
    print(f"out {secret}")
    print(f"err {secret}", file=sys.stderr)
    events.write(Determinants({secret: [secret]}))
    raise RuntimeError(f"refused with {secret}")


def crash_with_secrets(config: Config, events: EventLog, output_dir: Path) -> None:
    """Says a credential last, then dies."""
    print(f"last words {os.environ['TINY_API_TOKEN']}", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def plant(config: Config) -> Iterator[None]:
    """A fault that leaves a trace as long as it is entered."""
    os.environ["PLANTED"] = str(config["quantizer"]["name"])
    yield
    del os.environ["PLANTED"]


def get_ready(cache_dir: str) -> None:
    """A preparation; counts how often it was called."""
    Path(cache_dir).mkdir(parents=True, exist_ok=True)
    with Path(cache_dir, "ready").open("a") as file:
        file.write(f"{os.getpid()}\n")


def fail_to_get_ready(cache_dir: str) -> None:
    """A preparation that can't be done; counts how often it was tried."""
    get_ready(cache_dir)
    raise RuntimeError("no compiler")
