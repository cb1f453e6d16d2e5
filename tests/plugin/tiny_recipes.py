"""Recipes that end in all the ways a cell can end; copied into each test's project."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

from tunematrix.configuration import Configuration
from tunematrix.evidence.events import (
    Determinants,
    Storage,
    StoredLayer,
    Throughput,
)
from tunematrix.evidence.log import EventLog
from tunematrix.evidence.tensors import TensorKey

Config = Configuration


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


def curse(config: Config, events: EventLog, output_dir: Path) -> None:
    """Raises what no terminal, no XML and no page should take as it is."""
    text = "\x1b[2J\x00 ]]></failure> \ud800 ```</code> @octocat | <img src=x>"
    print(text.encode("utf-8", "replace").decode(), file=sys.stderr)
    raise ValueError(text)


def lean_on_wobble(config: Config, events: EventLog, output_dir: Path) -> None:
    """Does what the release of a library makes it do."""
    wobble = importlib.import_module("wobble")

    with events.phase("load"):
        wobble.load()


def crash(config: Config, events: EventLog, output_dir: Path) -> None:
    """Dies as native code does."""
    os.kill(os.getpid(), signal.SIGSEGV)


def confuse(config: Config, events: EventLog, output_dir: Path) -> None:
    """Records what no check expects."""
    events.write(Storage((StoredLayer("layer", (0, 0), 1),), 1))


def depend_on_the_seed(config: Config, events: EventLog, output_dir: Path) -> None:
    """Does nothing, or under the third seed what no check expects."""
    if config.train.seed == 2:
        confuse(config, events, output_dir)


def leave_early(config: Config, events: EventLog, output_dir: Path) -> None:
    """Ends with 0 before its end."""
    os._exit(0)


def keep(config: Config, events: EventLog, output_dir: Path) -> None:
    """Keeps what training would; `train` says by how much it is off, and whether it ends well."""
    train = config.train
    with (output_dir.parents[1] / "ran").open("a") as file:
        file.write(f"{output_dir.parent.name}\n")
    if train.gradient_checkpointing:
        raise ValueError("nothing to checkpoint")
    rounding = 1e-8 * train.accumulation * (1 + train.seed)
    planted = os.environ.get("SCALE", "1")
    if train.max_steps > 1 and planted:
        scale = float(planted) * (1 + train.weight_decay) + rounding
        events.keep(TensorKey("gradient", 0, "odd"), np.arange(1.0, 9.0))
        events.keep(TensorKey("gradient", 1, "weight"), np.arange(1.0, 9.0) * scale)
        events.keep(TensorKey("logits", name="trained"), np.arange(1.0, 9.0) * scale)
    events.write(Storage((), 1000 * train.batch_size))


def keep_over_wobble(config: Config, events: EventLog, output_dir: Path) -> None:
    """Keeps the same, after what the release of a library makes it do."""
    lean_on_wobble(config, events, output_dir)
    keep(config, events, output_dir)


def keep_slowly(config: Config, events: EventLog, output_dir: Path) -> None:
    """Keeps the same, but waits for good before it where it is told to."""
    if config.train.batch_size == 4 and os.environ.get("WAIT"):
        hang(config, events, output_dir)
    keep(config, events, output_dir)


def keep_oddly(config: Config, events: EventLog, output_dir: Path) -> None:
    """Keeps it, and records what no check expects."""
    keep(config, events, output_dir)
    confuse(config, events, output_dir)


def keep_and_shout(config: Config, events: EventLog, output_dir: Path) -> None:
    """Keeps it, but a thread died."""
    keep(config, events, output_dir)
    print_a_traceback(config, events, output_dir)


def hang(config: Config, events: EventLog, output_dir: Path) -> None:
    """Waits for good, with a daemon that left its session."""
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    (output_dir / "hanging").touch()
    time.sleep(600)


def nap(config: Config, events: EventLog, output_dir: Path) -> None:
    """Takes a third of a second."""
    time.sleep(0.3)


def kill_its_worker(config: Config, events: EventLog, output_dir: Path) -> None:
    """Ends the worker of the fleet that it runs for, as a machine does that runs out of memory."""
    for process in psutil.Process().parents():
        if "worker" in process.cmdline():
            process.kill()
    time.sleep(60)


def meet(config: Config, events: EventLog, output_dir: Path) -> None:
    """Ends well once another cell has begun while this one runs."""
    with running(output_dir):
        # These stay: the other may not look before this one has ended.
        begun = output_dir.parents[1] / "begun"
        begun.mkdir(exist_ok=True)
        (begun / output_dir.parent.name).touch()
        deadline = time.monotonic() + 60
        while len(list(begun.iterdir())) < 2:
            if time.monotonic() > deadline:
                raise TimeoutError("nobody came")
            time.sleep(0.02)


def avoid(config: Config, events: EventLog, output_dir: Path) -> None:
    """Ends well unless another cell runs at the same time; a token a second is what it does."""
    events.write(Throughput(1, 1.0))
    with running(output_dir) as others:
        for _ in range(10):
            if found := others():
                raise RuntimeError(f"not alone: {found}")
            time.sleep(0.05)


@contextmanager
def running(output_dir: Path) -> Iterator[Callable[[], list[str]]]:
    """Shows other cells that this one runs, and tells it which others do."""
    folder = output_dir.parents[1] / "running"
    folder.mkdir(exist_ok=True)
    own = folder / output_dir.parent.name
    own.touch()
    yield lambda: [path.name for path in folder.iterdir() if path != own]
    own.unlink()


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
    os.environ["PLANTED"] = config.quantizer.name
    yield
    del os.environ["PLANTED"]


@contextmanager
def scale(config: Config) -> Iterator[None]:
    """A fault that a relation must notice: gradients are 1 % too large."""
    os.environ["SCALE"] = "1.01"
    yield


@contextmanager
def burst(config: Config) -> Iterator[None]:
    """A fault that leaves nothing to measure: gradients are no numbers."""
    os.environ["SCALE"] = "nan"
    yield


@contextmanager
def lose(config: Config) -> Iterator[None]:
    """A fault that leaves nothing to compare."""
    os.environ["SCALE"] = ""
    yield


@contextmanager
def idle(config: Config) -> Iterator[None]:
    """A fault that does nothing."""
    yield


@contextmanager
def shout(config: Config) -> Iterator[None]:
    """A fault that the cell's own checks notice."""
    print("Traceback (most recent call last):\n  in a thread", file=sys.stderr)
    yield


def get_ready(cache_dir: str) -> None:
    """A preparation; counts how often it was called."""
    Path(cache_dir).mkdir(parents=True, exist_ok=True)
    with Path(cache_dir, "ready").open("a") as file:
        file.write(f"{os.getpid()}\n")


def fail_to_get_ready(cache_dir: str) -> None:
    """A preparation that can't be done; counts how often it was tried."""
    get_ready(cache_dir)
    raise RuntimeError("no compiler")
