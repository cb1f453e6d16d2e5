"""Which step is the last, where a trainer knows so before it: that one is looked at closely."""

from __future__ import annotations

import sys
from typing import Any

from . import waiting
from .patches import Patches
from .state import ProcessState

LIGHTNING = ("lightning.pytorch", "pytorch_lightning")


class Endings:
    """Asks the trainers of transformers and Lightning as they begin."""

    def __init__(self, state: ProcessState) -> None:
        self.state = state

    def install(self, patches: Patches) -> None:
        """Ask now, or once they are imported."""

        def transformers() -> None:
            library: Any = sys.modules["transformers.trainer_callback"]
            patches.around(
                "ending", library.CallbackHandler, "on_train_begin", self._trainer_begins
            )

        waiting.call_after("transformers.trainer_callback", transformers)
        for package in LIGHTNING:
            name = f"{package}.loops.fit_loop"

            def lightning(name: str = name) -> None:
                library: Any = sys.modules[name]
                patches.around("ending", library._FitLoop, "on_run_start", after=self._loop_begins)

            waiting.call_after(name, lightning)

    def _trainer_begins(self, handler: Any, args: Any, state: Any, *a: Any, **k: Any) -> None:
        self._ends_after(state.max_steps - state.global_step)

    def _loop_begins(self, result: Any, loop: Any, *args: Any, **kwargs: Any) -> None:
        # Its data is set up by now, so that nothing is loaded for this.
        steps = loop.trainer.estimated_stepping_batches
        if steps != float("inf"):
            self._ends_after(int(steps) - int(loop.trainer.global_step))

    def _ends_after(self, steps: int) -> None:
        if steps > 0:
            self.state.ends = self.state.steps + steps - 1
