"""Micro-batches as the model gets them: shapes, padding, and what the loss is asked to see."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from tunematrix.evidence.events import FirstLoss, MicroBatch
from tunematrix.stack.engines.examples import IGNORED

AUDITED_BATCHES = 3


@dataclass(frozen=True)
class LabelAudit:
    """What a row's counted labels may spell.

    Attributes:
        texts: every text that the data form supervises, end-of-sequence token included.
        tokenizer: to decode labels with.
        packed: whether a row holds several texts, one after the other.
    """

    texts: frozenset[str]
    tokenizer: PreTrainedTokenizerBase
    packed: bool

    def faithful(
        self, inputs: torch.Tensor, labels: torch.Tensor, positions: torch.Tensor | None
    ) -> bool:
        """Return whether one row's labels are its own inputs and spell what they should.

        In packed rows the first token of each text has no label, since nothing precedes it.
        """
        counted = labels != IGNORED
        if not torch.equal(inputs[counted], labels[counted]):
            return False
        if not self.packed:
            return self._spells(labels[counted])
        assert positions is not None, "packed rows come with position ids"
        starts = [*(positions == 0).nonzero().flatten().tolist(), len(inputs)]
        return bool(counted[positions != 0].all()) and all(
            self._spells(inputs[start:end]) for start, end in pairwise(starts)
        )

    def _spells(self, tokens: torch.Tensor) -> bool:
        return self.tokenizer.decode(tokens, skip_special_tokens=False) in self.texts


@dataclass
class BatchMeter:
    """Looks at each training pass; `next_step` says when an optimizer step has ended.

    Attributes:
        audit: judges labels; write: takes what was seen.
        step: optimizer steps so far; count: training passes so far.
        current: the pass whose backward may still be under way.
        first: summed nats and counted tokens of each pass of the first step.
        rows: sequences so far; first_rows: a digest of each one of the first step.
        busy: whether the meter itself is calling the model.
    """

    audit: LabelAudit
    write: Callable[[MicroBatch | FirstLoss], None]
    step: int = 0
    count: int = 0
    current: MicroBatch | None = None
    first: list[tuple[float, int]] = field(default_factory=list)
    rows: int = 0
    first_rows: list[str] = field(default_factory=list)
    busy: bool = False

    def enter(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Look at the inputs of one training pass."""
        if self.busy or not model.training or kwargs.get("labels") is None:
            return
        self.flush()
        inputs, labels = kwargs["input_ids"], kwargs["labels"]
        mask, positions = kwargs.get("attention_mask"), kwargs.get("position_ids")
        sampled = range(len(inputs)) if self.count < AUDITED_BATCHES else range(0)
        self.count += 1
        self.rows += len(inputs)
        self.current = MicroBatch(
            step=self.step,
            rows=inputs.shape[0],
            columns=inputs.shape[1],
            tokens=int(mask.sum()) if mask is not None else inputs.numel(),
            audited=len(sampled),
            faithful=sum(
                self.audit.faithful(
                    inputs[row], labels[row], None if positions is None else positions[row]
                )
                for row in sampled
            ),
            layer_calls=0,
        )
        if self.step == 0:
            self.first_rows += _digests(inputs, mask)
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
            self.write(self.first_loss())
        self.step += 1

    def first_loss(self) -> FirstLoss:
        """Return the cross-entropy of the first step's passes."""
        total = sum(nats for nats, _ in self.first)
        tokens = sum(tokens for _, tokens in self.first)
        return FirstLoss(total / max(tokens, 1), tokens)

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
    # Weights that autocast has lowered without a gradient would be taken for the training pass.
    torch.clear_autocast_cache()
    labels = inputs["labels"][:, 1:]
    chosen = logits[:, :-1].gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    nats = torch.logsumexp(logits[:, :-1], dim=-1) - chosen
    counted = labels != IGNORED
    return float(nats[counted].sum()), int(counted.sum())


def _digests(inputs: torch.Tensor, mask: torch.Tensor | None) -> list[str]:
    """Return a short name for each row's tokens, padding left out."""
    kept = torch.ones_like(inputs) if mask is None else mask
    rows = (row[real.bool()].cpu().numpy() for row, real in zip(inputs, kept, strict=True))
    return [hashlib.blake2b(row.tobytes(), digest_size=8).hexdigest() for row in rows]
