"""The trainer's own evaluations on the way: their rows, their mode, and their loss as it should be.

What a trainer calls its loss is a mean over its batches, by their rows or by their tokens; both are
recomputed from the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import nn

from tunematrix.evidence.events import EvaluationPasses
from tunematrix.stack.engines.torch import ranks
from tunematrix.stack.engines.torch.meters.batches import Labels
from tunematrix.stack.engines.torch.meters.gradients import ENTERING, cross_entropy
from tunematrix.stack.engines.torch.meters.hooks import removing
from tunematrix.stack.yardsticks.blame import passing

SUMS = ("rows", "faithful", "training", "tokens", "nats", "means")


class EvaluationMeter:
    """Looks at each pass with labels that takes no gradient.

    Attributes:
        known: makes what knows the held-out rows, once a pass asks; held_out: how many there are.
        smoothing: of the labels.
        sums: over the passes so far; `means` are mean nats per counted token, weighed by rows.
        context: the autocast around the passes of training, in which evaluations belong as well.
        busy: whether the meter itself is calling the model.
    """

    def __init__(
        self, known: Callable[[], Labels], held_out: int, device: str, smoothing: float
    ) -> None:
        self.smoothing = smoothing
        self.known, self.held_out, self.device = known, held_out, device
        self.busy = False
        self.context: torch.autocast | nullcontext[None] = nullcontext()
        self._clear()

    @cached_property
    def labels(self) -> Labels:
        """What knows the held-out rows: most cells never evaluate on their way."""
        return self.known()

    @torch.compiler.disable
    def enter(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Look at one pass."""
        if self.busy or kwargs.get("labels") is None:
            return
        if torch.is_grad_enabled():
            self.context = _around(self.device)
            return
        if self.smoothing and model.training:
            return  # SFTTrainer's second pass of a training step, for its figures alone
        self.sums["training"] += model.training
        self.sums["faithful"] += self.labels.look(kwargs).faithful
        entering = {name: kwargs[name] for name in ENTERING if kwargs.get(name) is not None}
        self.busy, training = True, model.training
        model.eval()
        with self.context:
            logits = passing(model, **entering, use_cache=False).logits
        nats, tokens = cross_entropy(logits, kwargs["labels"], self.smoothing)
        model.train(training)
        self.busy = False
        rows = len(kwargs["input_ids"])
        mean = float(nats) / max(tokens, 1)
        for name, figure in (("rows", rows), ("tokens", tokens), ("nats", float(nats))):
            self.sums[name] += figure
        self.sums["means"] += mean * rows

    def take(self, step: int) -> EvaluationPasses:
        """Return what was seen since the last time, at an evaluation after `step` steps.

        Every process has to ask.
        """
        sums = {name: ranks.total(figure, self.device) for name, figure in self.sums.items()}
        passes = EvaluationPasses(
            step=step,
            by_rows=sums["means"] / max(sums["rows"], 1),
            by_tokens=sums["nats"] / max(sums["tokens"], 1),
            rows=int(sums["rows"]),
            faithful=int(sums["faithful"]),
            held_out=self.held_out,
            training=int(sums["training"]),
        )
        self._clear()
        return passes

    def _clear(self) -> None:
        self.sums = dict.fromkeys(SUMS, 0.0)


def _around(device: str) -> torch.autocast:
    """Return the autocast that is on now, or that none is, to be entered again."""
    enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    return torch.autocast(device, dtype, enabled)


@contextmanager
def watch(model: nn.Module, meter: EvaluationMeter) -> Iterator[None]:
    """Let `meter` see every pass without a gradient meanwhile."""
    with removing(model.register_forward_pre_hook(meter.enter, with_kwargs=True)):
        yield
