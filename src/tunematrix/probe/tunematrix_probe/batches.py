"""What models are given: rows, padding, labels, end tokens.

All figures of a pass are made on the tensors' own device, as a few integers, and read one step
later: so that an accelerator never waits for the probe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch

from .models import Model
from .records import SeenBatch
from .state import ProcessState

IGNORED = -100
"""The label that PyTorch's cross-entropy leaves out."""
FIGURES = 9
ELEMENTS = 4096
"""Of a row that holds no tokens, so many at most go into its digest."""


@dataclass
class Batch:
    """The figures of one pass, before they are read.

    Attributes:
        figures: tokens, labelled, padding_labelled, equal, next, ends, ends_labelled, restarts and
            whether an end token is known, then the rows' digests, (9 + rows), int64.
        shape: rows and columns.
    """

    model: int
    step: int
    pass_number: int
    training: bool
    shape: tuple[int, int]
    labels: bool
    tokenized: bool
    figures: torch.Tensor
    ended: bool

    def read(self) -> SeenBatch:
        """Wait for the figures."""
        values = self.figures.tolist()
        tokens, labelled, padding, equal, following, ends, ends_labelled, restarts, _ = values[
            :FIGURES
        ]
        known = self.tokenized and self.labels
        return SeenBatch(
            model=self.model,
            step=self.step,
            pass_number=self.pass_number,
            rows=self.shape[0],
            columns=self.shape[1],
            tokens=tokens,
            digests=tuple(f"{value & (2**64 - 1):016x}" for value in values[FIGURES:]),
            labelled=labelled if known else None,
            padding_labelled=padding if known else None,
            equal_labels=equal if known else None,
            next_labels=following if known else None,
            ends=ends if self.ended else None,
            ends_labelled=ends_labelled if self.ended and known else None,
            positions_restart=restarts,
            training=self.training,
            tokenized=self.tokenized,
        )


ALIASES = {
    "idx": "input_ids",
    "tokens": "input_ids",
    "x": "input_ids",
    "input": "input_ids",
    "inputs": "input_ids",
    "ids": "input_ids",
    "mask": "attention_mask",
    "target": "labels",
    "targets": "labels",
    "y": "labels",
}
"""What others call the inputs of a language model."""


def named_inputs(model: Model, args: Any, kwargs: Any) -> dict[str, Any]:
    """Return the inputs of a call by name, by those that language models of Hugging Face use."""
    found: dict[str, Any] = {}
    for name, one in zip(_names(model), args):
        if isinstance(one, Mapping):
            found.update((str(key), value) for key, value in one.items())
        else:
            found[name] = one
    found.update(kwargs)
    for name, usual in ALIASES.items():
        value = found.get(name)
        is_ids = isinstance(value, torch.Tensor) and not value.is_floating_point()
        if is_ids and usual not in found:
            found[usual] = found.pop(name)
    return found


def _names(model: Model) -> list[str]:
    if model.inputs is None:
        try:
            model.inputs = list(signature(model.inner().forward).parameters)
        except (TypeError, ValueError):
            model.inputs = []
    return model.inputs + [f"argument{place}" for place in range(16)]


class Batches:
    """Looks at what enters each training pass."""

    def __init__(self, state: ProcessState) -> None:
        self.state = state
        self.count = 0
        self.waiting: list[Batch] = []
        self._constants: dict[tuple[int, Any], torch.Tensor] = {}

    def model_found(self, model: Model) -> None:
        """Nothing needs to be known of a model before."""

    def entered(self, model: Model) -> None:
        """Nothing can be seen before the call is over: keywords aren't there yet."""

    def left(self, model: Model, args: Any, kwargs: Any, output: Any, outputs: Any) -> None:
        """Look at the inputs of a pass."""
        self.state.safely("batch", self._look, model, args, kwargs)

    def _look(self, model: Model, args: Any, kwargs: Any) -> None:
        state = self.state
        batch = self._batch(model, named_inputs(model, args, kwargs))
        if batch is None:
            return
        if state.worth_a_line(self.count):
            self.waiting.append(batch)
        self.count += 1
        for one in state.optimizers:
            one.batches.append(batch)

    def read(self) -> None:
        """Write what is waiting."""
        waiting, self.waiting = self.waiting, []
        for batch in waiting:
            self.state.writer.write(batch.read())

    @torch.no_grad()
    def _batch(self, model: Model, inputs: dict[str, Any]) -> Batch | None:
        ids: Any = inputs.get("input_ids")
        tokenized = isinstance(ids, torch.Tensor) and ids.dim() == 2
        if not tokenized:
            ids = _first_rows(inputs)
            if ids is None:
                return None
        mask = mask_of(model, ids, inputs) if tokenized else None
        labels = inputs.get("labels")
        if not isinstance(labels, torch.Tensor) or labels.shape != ids.shape:
            labels = None
        end = _end_token(model) if tokenized else None
        figures = [
            *_counts(ids, mask, labels, end, inputs.get("position_ids"), tokenized),
            self._digests(ids, mask),
        ]
        return Batch(
            model=model.number,
            step=self.state.steps,
            pass_number=self.state.pass_number - 1,
            training=bool(model.ref().training),
            shape=(int(ids.shape[0]), int(ids.shape[1])),
            labels=labels is not None,
            tokenized=tokenized,
            figures=torch.cat(figures),
            ended=end is not None,
        )

    def _digests(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Return a number for each row, the same wherever padding stands, (rows,)."""
        table = self._table(ids.shape[1], ids.device)
        values = ids.long() + 1
        if mask is None:
            return (values * table).sum(dim=1)
        real = mask.ne(0)
        place = real.cumsum(dim=1).sub_(1).clamp_(min=0)
        return (values * table[place] * real).sum(dim=1)

    def _table(self, columns: int, device: Any) -> torch.Tensor:
        """Return odd numbers that look random, (columns,): splitmix64, without a generator."""
        size = 1 << (max(columns, 2) - 1).bit_length()
        key = (size, device)
        if key not in self._constants:
            x = torch.arange(1, size + 1, dtype=torch.int64, device=device) * -7046029254386353131
            x = (x ^ (x >> 30)) * -4658895280553007687
            x = (x ^ (x >> 27)) * -7723592293110705685
            self._constants[key] = (x ^ (x >> 31)) | 1
        return self._constants[key][:columns]


def mask_of(model: Model, ids: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor | None:
    """Return which positions are real; without a mask, rows may end in tokens made for padding."""
    mask = inputs.get("attention_mask")
    if isinstance(mask, torch.Tensor):
        return mask if mask.shape == ids.shape else None
    padding = getattr(getattr(model.inner(), "config", None), "pad_token_id", None)
    if not isinstance(padding, int) or padding == _end_token(model):
        return None
    trailing = ids.eq(padding).flip(1).long().cumprod(dim=1).flip(1)
    # A single one may be meant.
    return (trailing * trailing.sum(dim=1, keepdim=True).gt(1)).eq(0)


def _first_rows(inputs: dict[str, Any]) -> torch.Tensor | None:
    """Return a part of the first tensor as integers, (rows, columns), if there is one with rows."""
    for value in inputs.values():
        if isinstance(value, torch.Tensor) and value.dim() > 1 and value.shape[0] > 0:
            if value.requires_grad:
                return None  # another network has computed it
            rows = value.detach().reshape(value.shape[0], -1)
            if rows.shape[1] > ELEMENTS:
                rows = rows[:, :: -(-rows.shape[1] // ELEMENTS)]
            if rows.is_floating_point():
                rows = rows.float().contiguous().view(torch.int32)
            return rows.long() if rows.shape[1] else None
    return None


def _end_token(model: Model) -> int | None:
    config = getattr(model.inner(), "config", None)
    end = getattr(config, "eos_token_id", None)
    if end is None:
        end = getattr(getattr(model.inner(), "generation_config", None), "eos_token_id", None)
    if isinstance(end, (list, tuple)):
        end = end[0] if end else None
    return end if isinstance(end, int) else None


def _counts(
    ids: torch.Tensor,
    mask: torch.Tensor | None,
    labels: torch.Tensor | None,
    end: int | None,
    positions: Any,
    tokenized: bool,
) -> list[torch.Tensor]:
    """Return the nine figures of a batch as one tensor each, (1,), int64."""
    zero = torch.zeros((), dtype=torch.int64, device=ids.device)
    found = [zero] * FIGURES
    found[0] = zero + ids.numel() if mask is None else mask.ne(0).sum()
    if not tokenized:
        return [torch.stack(found)]
    if labels is not None:
        labels = labels.to(ids.device)
        counted = labels.ne(IGNORED)
        found[1] = counted.sum()
        if mask is not None:
            found[2] = (counted & mask.eq(0)).sum()
        found[3] = (counted & labels.eq(ids)).sum()
        found[4] = (counted[:, :-1] & labels[:, :-1].eq(ids[:, 1:])).sum()
    if end is not None:
        last = _last_places(ids, mask)
        is_end = ids.gather(1, last).eq(end)
        found[5] = is_end.sum()
        if labels is not None:
            found[6] = (is_end & labels.gather(1, last).ne(IGNORED)).sum()
    if isinstance(positions, torch.Tensor) and positions.shape == ids.shape:
        real = positions.eq(0) if mask is None else positions.eq(0) & mask.ne(0)
        found[7] = (real.sum(dim=1) > 1).sum()
    return [torch.stack([one.reshape(()) for one in found])]


def _last_places(ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return the place of each row's last real token, (rows, 1)."""
    if mask is None:
        return torch.full((ids.shape[0], 1), ids.shape[1] - 1, device=ids.device)
    places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    return places.where(mask.ne(0), places.new_zeros(())).amax(dim=1, keepdim=True)
