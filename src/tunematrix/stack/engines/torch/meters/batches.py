"""Micro-batches as the model gets them: shapes, padding, and what the loss is asked to see."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from tunematrix.evidence.events import Draws, MicroBatch
from tunematrix.stack import releases
from tunematrix.stack.engines.examples import IGNORED
from tunematrix.stack.engines.known_rows import Found
from tunematrix.stack.engines.torch.meters.hooks import removing


class Labels(Protocol):
    """Judges the labels of a batch."""

    def look(self, inputs: Mapping[str, torch.Tensor]) -> Found:
        """Say which rows are rows of the data, and count what they should."""


class StepMeter(Protocol):
    """Recomputes losses from what enters the model; it calls the model itself."""

    def look(self, model: nn.Module, inputs: dict[str, Any], step: int) -> None:
        """Look at the inputs of one training pass of a step."""

    def stepped(self, step: int) -> None:
        """Take note that a step has ended."""


@dataclass
class BatchMeter:
    """Looks at each training pass; `next_step` says when an optimizer step has ended.

    Attributes:
        labels: judges labels; losses: recomputes losses; write: takes what was seen.
        step: optimizer steps so far.
        current: the pass whose backward may still be under way.
        rows: sequences so far; first_rows: a digest of each one of the first step.
        calls: how often each watched layer was called since the pass began.
        activations: what entered them, without keeping it.
        beside: passes without a gradient since the last training pass, such as a reference's.
        busy: whether the meter itself is calling the model.
    """

    labels: Labels
    losses: StepMeter
    write: Callable[[MicroBatch | Draws], None]
    step: int = 0
    current: MicroBatch | None = None
    rows: int = 0
    first_rows: list[str] = field(default_factory=list)
    calls: dict[nn.Module, int] = field(default_factory=dict)
    activations: list[StorageWeakRef] = field(default_factory=list)
    beside: int = 0
    busy: bool = False

    @torch.compiler.disable
    def enter(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Look at the inputs of one training pass, and count those without a gradient."""
        if self.busy or not model.training:
            return
        if not torch.is_grad_enabled():
            self.beside += 1
            return
        given = dict(releases.inputs_of(model, args, kwargs))
        if given.get("labels") is None:
            return
        self.flush()
        inputs, mask = given["input_ids"], given.get("attention_mask")
        found = self.labels.look(given)
        rows = found.flat or len(inputs)
        self.rows += rows
        self.current = MicroBatch(
            step=self.step,
            rows=rows,
            columns=-(-inputs.shape[1] // max(found.flat, 1)),
            tokens=int(mask.sum()) if mask is not None else inputs.numel(),
            audited=rows,
            faithful=found.faithful,
            layer_calls=(),
            wrong=dict(found.wrong),
            cut=found.cut,
            texts=found.texts,
            beside=self.beside,
            counted=int((given["labels"][:, 1:] != IGNORED).sum()),
        )
        self.beside = 0
        if self.rows == rows:
            self.write(Draws(torch.initial_seed()))
        if self.step == 0:
            self.first_rows += _digests(inputs, mask)
        self.busy = True
        self.losses.look(model, given, self.step)
        self.busy = False

    def layer_called(self, layer: nn.Module, args: Any) -> None:
        """Count one call of a watched layer, forward or recomputed."""
        trains = layer.training and torch.is_grad_enabled()
        if self.current is not None and trains and not self.busy:
            self.calls[layer] += 1
            self.activations.append(StorageWeakRef(args[0].untyped_storage()))

    @torch.compiler.disable
    def left(self, model: nn.Module, args: Any, output: Any) -> None:
        """Count what a forward pass has kept for the backward pass, and add up its loss."""
        if self.current is not None and self.current.kept is None and not self.busy:
            nats = releases.nats_of(output)
            self.current = replace(self.current, kept=self._alive(), nats=nats)

    def next_step(self) -> None:
        """Close the step that has ended; what follows belongs to the next."""
        self.flush()
        self.losses.stepped(self.step)
        self.step += 1

    def flush(self) -> None:
        """Write the pass that is over."""
        if self.current is not None:
            calls = tuple(sorted(set(self.calls.values())))
            self.write(replace(self.current, layer_calls=calls, stale=self._alive()))
            self.current = None
            self.activations.clear()
            self.calls.update(dict.fromkeys(self.calls, 0))

    def _alive(self) -> int:
        return sum(not one.expired() for one in self.activations)


@contextmanager
def watch(model: nn.Module, inside: list[nn.Module], meter: BatchMeter) -> Iterator[None]:
    """Let `meter` see every training pass meanwhile.

    `inside` has a layer inside each decoder layer: transformers recomputes a decoder layer without
    its hooks, so only what lies inside shows that it ran again.
    """
    meter.calls = dict.fromkeys(inside, 0)
    with removing(
        model.register_forward_pre_hook(meter.enter, with_kwargs=True),
        *(layer.register_forward_pre_hook(meter.layer_called) for layer in inside),
        model.register_forward_hook(meter.left),
    ):
        try:
            yield
        finally:
            meter.flush()


def _digests(inputs: torch.Tensor, mask: torch.Tensor | None) -> list[str]:
    """Return a short name for each row's tokens, padding left out."""
    kept = torch.ones_like(inputs) if mask is None else mask
    rows = (row[real.bool()].cpu().numpy() for row, real in zip(inputs, kept, strict=True))
    return [hashlib.blake2b(row.tobytes(), digest_size=8).hexdigest() for row in rows]
