"""Faults in what goes on beside training: processes, threads, generators, the number of steps."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import Trainer, set_seed

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced

SECONDS = "60"
SEED = 42


@fault("process", replaces=(Trainer, "train"))
def process_left_behind(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Start a process with training, in a session of its own, and never end it.

    Stands for servers, loggers and data loaders that outlive the run that started them.
    """
    # Ended by whoever finds it.
    subprocess.Popen(["sleep", SECONDS], start_new_session=True)
    return original(*args, **kwargs)


@fault("process", replaces=(Trainer, "train"))
def thread_dies_unheard(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Raise an error in a thread beside training, which goes on.

    Stands for uploads, loggers and prefetchers that fail where nobody waits for them.
    """

    def fail() -> None:
        raise ConnectionError("the upload was refused")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    return original(*args, **kwargs)


@fault("process", replaces=(Trainer, "train"))
def stops_one_step_early(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> Any:
    """Train one optimizer step less than was asked for.

    Stands for steps that are counted from 1 in one place, and from 0 in another.
    """
    trainer.args.max_steps -= 1
    return original(trainer, *args, **kwargs)


@fault(
    "process",
    replaces=(Trainer, "training_step"),
    seen_by=("dropout[*-lora]", "same-resumed-lora[*]"),
    fitted=True,
)
def reseeded_at_each_step(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Seed all generators before each step, so that dropout draws one and the same mask for ever.

    Stands for callbacks and metrics that seed for their own sake.
    """
    set_seed(SEED)
    return original(*args, **kwargs)


@fault("process", replaces=(Trainer, "training_step"), seen_by=("same-interpreters[*]",))
def seeded_by_the_clock(original: Any, *args: Any, call: int, **kwargs: Any) -> Any:
    """Seed all generators by what the machine happens to give, as training begins.

    Stands for trainers that make a seed of their own where they were given none to use: dropout's
    masks are others in each run, and the loss about the same.
    """
    if call == 1:
        drawn = int.from_bytes(os.urandom(4), "big")
        random.seed(drawn)
        np.random.seed(drawn)
        torch.manual_seed(drawn)
    return original(*args, **kwargs)


@fault("process", fitted=True)
def threads_set_for_all(config: Configuration) -> Iterator[None]:
    """Set PyTorch's number of threads when training begins, and leave it at that.

    Stands for libraries that know best how many cores there are: figures are no longer those of the
    machine's owner, and several processes fight over the same cores.
    """
    held = torch.get_num_threads()
    with replaced(Trainer, "train", _before(lambda: torch.set_num_threads(held + 1))):
        yield
    torch.set_num_threads(held)


@fault("process", fitted=True)
def default_dtype_left_behind(config: Configuration) -> Iterator[None]:
    """Leave float64 behind as the default dtype, from the moment at which training begins.

    Stands for loaders that set it for their own sake, and don't set it back where they raise.
    """
    with replaced(Trainer, "train", _before(lambda: torch.set_default_dtype(torch.float64))):
        yield
    torch.set_default_dtype(torch.float32)


@fault("process")
def deterministic_for_all(config: Configuration) -> Iterator[None]:
    """Ask for deterministic algorithms when training begins, for the whole process, and for good.

    Stands for helpers such as `enable_full_determinism`, which set variables besides.
    """
    act = partial(torch.use_deterministic_algorithms, True, warn_only=True)
    with replaced(Trainer, "train", _before(act)):
        yield
    torch.use_deterministic_algorithms(False)


@fault("process", replaces=(Trainer, "train"))
def gradients_left_off(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Switch gradients off for the whole process when training is over.

    Stands for evaluations that call set_grad_enabled(False) and never set it back: the next
    training in the same process learns nothing.
    """
    found = original(*args, **kwargs)
    torch.set_grad_enabled(False)
    return found


@fault("process", replaces=(Trainer, "train"))
def seeded_for_all(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Seed all generators by 42 when training is over, so that all that follows repeats itself."""
    found = original(*args, **kwargs)
    set_seed(SEED)
    return found


@fault("process", replaces=(Trainer, "train"))
def warnings_silenced(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Silence all warnings of the process, as libraries do to keep their own output tidy."""
    warnings.simplefilter("ignore")
    return original(*args, **kwargs)


@fault("process", replaces=(Trainer, "train"))
def variable_left_behind(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Set the number of threads in the environment, which every process started later obeys."""
    os.environ["OMP_NUM_THREADS"] = "7"
    return original(*args, **kwargs)


def _before(act: Callable[[], None]) -> Any:
    """Return what does something before each call."""

    def wrap(original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            act()
            return original(*args, **kwargs)

        return call

    return wrap
