"""Ways for ranks to end or to hang; imported by workers, never by tests."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import distributed
from transformers import Trainer

from tunematrix.configuration import Configuration
from tunematrix.evidence.log import EventLog
from tunematrix.faults.catalogue import Fault, fault


def _in_the_second_step(act: Callable[[], None]) -> Fault:
    @fault("distribution", replaces=(Trainer, "training_step"))
    def step(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> Any:
        if trainer.state.global_step == 1 and distributed.get_rank() == 1:
            print("these are my last words", file=sys.stderr)
            act()
        return original(trainer, *args, **kwargs)

    return step


def _raise() -> None:
    raise FloatingPointError("rank one gives up")


killed = _in_the_second_step(lambda: os.kill(os.getpid(), signal.SIGKILL))
exits = _in_the_second_step(lambda: os._exit(3))
raises = _in_the_second_step(_raise)
hangs = _in_the_second_step(lambda: time.sleep(600))


def sleep(config: Configuration, events: EventLog, output_dir: Path) -> None:
    """A recipe whose ranks all wait for something that never comes."""
    (output_dir / f"{os.getpid()}.pid").touch()
    time.sleep(600)
