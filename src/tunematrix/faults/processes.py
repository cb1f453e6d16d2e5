"""Faults in what goes on beside training: processes, threads, generators, the number of steps."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from transformers import Trainer, set_seed

from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced

SECONDS = "60"
SEED = 42


@fault("process")
def process_left_behind(config: Mapping[str, Any]) -> Iterator[None]:
    """Start a process with training, in a session of its own, and never end it.

    Stands for servers, loggers and data loaders that outlive the run that started them.
    """

    def start() -> None:
        subprocess.Popen(["sleep", SECONDS], start_new_session=True)  # ended by whoever finds it

    with replaced(Trainer, "train", _before(start)):
        yield


@fault("process")
def thread_dies_unheard(config: Mapping[str, Any]) -> Iterator[None]:
    """Raise an error in a thread beside training, which goes on.

    Stands for uploads, loggers and prefetchers that fail where nobody waits for them.
    """

    def fail() -> None:
        raise ConnectionError("the upload was refused")

    def start() -> None:
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()

    with replaced(Trainer, "train", _before(start)):
        yield


@fault("process")
def stops_one_step_early(config: Mapping[str, Any]) -> Iterator[None]:
    """Train one optimizer step less than was asked for.

    Stands for steps that are counted from 1 in one place, and from 0 in another.
    """

    def wrap(original: Any) -> Any:
        def train(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            trainer.args.max_steps -= 1
            return original(trainer, *args, **kwargs)

        return train

    with replaced(Trainer, "train", wrap):
        yield


@fault("process", seen_by=("dropout[*-lora]", "same-resumed-lora[*]"))
def reseeded_at_each_step(config: Mapping[str, Any]) -> Iterator[None]:
    """Seed all generators before each step, so that dropout draws one and the same mask for ever.

    Stands for callbacks and metrics that seed for their own sake.
    """

    def seed() -> None:
        set_seed(SEED)

    with replaced(Trainer, "training_step", _before(seed)):
        yield


@fault("process", seen_by=("same-interpreters[*]",))
def seeded_by_the_clock(config: Mapping[str, Any]) -> Iterator[None]:
    """Seed all generators by what the machine happens to give, as training begins.

    Stands for trainers that make a seed of their own where they were given none to use: dropout's
    masks are others in each run, and the loss about the same.
    """

    def seed() -> None:
        drawn = int.from_bytes(os.urandom(4), "big")
        random.seed(drawn)
        np.random.seed(drawn)
        torch.manual_seed(drawn)

    with replaced(Trainer, "training_step", _at(1, seed)):
        yield


@fault("process")
def threads_set_for_all(config: Mapping[str, Any]) -> Iterator[None]:
    """Set PyTorch's number of threads when training begins, and leave it at that.

    Stands for libraries that know best how many cores there are: figures are no longer those of the
    machine's owner, and several processes fight over the same cores.
    """
    held = torch.get_num_threads()
    with replaced(Trainer, "train", _before(lambda: torch.set_num_threads(held + 1))):
        yield
    torch.set_num_threads(held)


@fault("process")
def default_dtype_left_behind(config: Mapping[str, Any]) -> Iterator[None]:
    """Leave float64 behind as the default dtype, from the moment at which training begins.

    Stands for loaders that set it for their own sake, and don't set it back where they raise.
    """
    with replaced(Trainer, "train", _before(lambda: torch.set_default_dtype(torch.float64))):
        yield
    torch.set_default_dtype(torch.float32)


def _before(act: Callable[[], None]) -> Any:
    """Return what does something before each call."""

    def wrap(original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            act()
            return original(*args, **kwargs)

        return call

    return wrap


def _at(number: int, act: Callable[[], None]) -> Any:
    """Return what does something before one of the calls, counted from 1."""
    calls = 0

    def wrap(original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                act()
            return original(*args, **kwargs)

        return call

    return wrap
