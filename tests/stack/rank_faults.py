"""Ways for rank 1 to end while it trains; imported by workers, never by tests."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import distributed
from transformers import Trainer

from tunematrix.faults.patching import replaced

Fault = Callable[[Mapping[str, Any]], AbstractContextManager[None]]


def _in_the_second_step(act: Callable[[], None]) -> Fault:
    @contextmanager
    def fault(config: Mapping[str, Any]) -> Iterator[None]:
        def wrap(original: Any) -> Any:
            def step(trainer: Any, *args: Any, **kwargs: Any) -> Any:
                if trainer.state.global_step == 1 and distributed.get_rank() == 1:
                    print("these are my last words", file=sys.stderr)
                    act()
                return original(trainer, *args, **kwargs)

            return step

        with replaced(Trainer, "training_step", wrap):
            yield

    return fault


def _raise() -> None:
    raise FloatingPointError("rank one gives up")


killed = _in_the_second_step(lambda: os.kill(os.getpid(), signal.SIGKILL))
exits = _in_the_second_step(lambda: os._exit(3))
raises = _in_the_second_step(_raise)
hangs = _in_the_second_step(lambda: time.sleep(600))
