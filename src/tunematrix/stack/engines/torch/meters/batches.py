"""Micro-batches as the model gets them: shapes, padding, and what the loss is asked to see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from tunematrix.evidence.events import FirstLoss, MicroBatch
from tunematrix.stack.engines.examples import IGNORED
from tunematrix.stack.engines.torch.meters.labels import LabelAudit


@dataclass
class BatchMeter:
    """Looks at each training pass; `next_step` says when an optimizer step has ended.

    Attributes:
        audit: judges rows; write: takes what was seen.
        step: optimizer steps so far.
        current: the pass whose backward may still be under way.
        first: summed nats and counted tokens of each pass of the first step.
        busy: whether the meter itself is calling the model.
    """

    audit: LabelAudit
    write: Callable[[MicroBatch | FirstLoss], None]
    step: int = 0
    current: MicroBatch | None = None
    first: list[tuple[float, int]] = field(default_factory=list)
    busy: bool = False

    def enter(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Look at the inputs of one training pass."""
        if self.busy or not model.training or kwargs.get("labels") is None:
            return
        self.flush()
        inputs, labels = kwargs["input_ids"], kwargs["labels"]
        mask, positions = kwargs.get("attention_mask"), kwargs.get("position_ids")
        self.current = MicroBatch(
            step=self.step,
            rows=inputs.shape[0],
            columns=inputs.shape[1],
            tokens=int(mask.sum()) if mask is not None else inputs.numel(),
            audited=inputs.shape[0],
            faithful=self.audit.faithful(inputs, labels, mask, positions),
            layer_calls=0,
        )
        if self.step == 0:
            self.busy = True
            self.first.append(cross_entropy(model, kwargs))
            self.busy = False

    def layer_called(self, layer: nn.Module, args: Any) -> None:
        """Count one call of the watched layer, forward or recomputed."""
        if self.current is not None and layer.training and not self.busy:
            self.current = replace(self.current, layer_calls=self.current.layer_calls + 1)

    def next_step(self) -> None:
        """Close the step that has ended; what follows belongs to the next."""
        self.flush()
        if self.step == 0 and self.first:
            total, tokens = (sum(column) for column in zip(*self.first, strict=True))
            self.write(FirstLoss(total / max(tokens, 1), int(tokens)))
        self.step += 1

    def flush(self) -> None:
        """Write the pass that is over."""
        if self.current is not None:
            self.write(self.current)
            self.current = None


@contextmanager
def watch(model: nn.Module, linear: nn.Module, meter: BatchMeter) -> Iterator[None]:
    """Let `meter` see every training pass meanwhile.

    `linear` is a layer inside a decoder layer: transformers recomputes a decoder layer's forward
    without its hooks, so only what lies inside shows that it ran again.
    """
    handles = [
        model.register_forward_pre_hook(meter.enter, with_kwargs=True),
        linear.register_forward_pre_hook(meter.layer_called),
    ]
    try:
        yield
    finally:
        meter.flush()
        for handle in handles:
            handle.remove()


def cross_entropy(model: nn.Module, inputs: dict[str, Any]) -> tuple[float, int]:
    """Return (summed nats, counted tokens) of a batch, from the logits, by the definition."""
    names = ("input_ids", "attention_mask", "position_ids")
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        logits = model(**{n: inputs[n] for n in names if n in inputs}).logits.double()
    labels = inputs["labels"][:, 1:]
    chosen = logits[:, :-1].gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    nats = torch.logsumexp(logits[:, :-1], dim=-1) - chosen
    counted = labels != IGNORED
    return float(nats[counted].sum()), int(counted.sum())
