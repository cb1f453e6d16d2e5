"""All meters around one stretch of training, which they see through its batches.

mlx-lm's trainer asks for a batch once the step before it is over: what a step did is read then.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.optimizers import Optimizer
from mlx_lm.tuner import trainer

from tunematrix.configuration import Configuration
from tunematrix.evidence.events import (
    Compute,
    Device,
    MicroBatch,
    OptimizerStep,
    StepLoss,
    Switches,
)
from tunematrix.evidence.log import EventLog
from tunematrix.evidence.tensors import TensorKey
from tunematrix.stack.engines.known_rows import Found
from tunematrix.stack.engines.mlx.meters import tensors, tracing
from tunematrix.stack.engines.mlx.meters.batches import MlxLabelAudit, counted
from tunematrix.stack.engines.mlx.meters.optimizer import UpdateAudit
from tunematrix.stack.yardsticks.audit import AUDITED_STEPS, Formula
from tunematrix.stack.yardsticks.meters import Meter, watching
from tunematrix.stack.yardsticks.switches import SwitchMeter

Signature = tuple[int, bool, bool]
"""What mlx-lm's compiled step is traced for: columns, a step's first and its last micro-batch."""


class MlxMeters:
    """Feeds the trainer its batches and reads shapes, labels, dtypes, devices and steps.

    Attributes:
        tokens: real positions that entered the model so far.
        count: micro-batches that are over; current: the one whose step may be under way.
        traced: how often the first layer was called when a signature was traced.
        keeps: whether parameters are kept for relations.
        block: class of the decoder's blocks; plain: how they are called without checkpointing.
    """

    def __init__(
        self,
        config: Configuration,
        model: nn.Module,
        optimizer: Optimizer,
        calls: tracing.CallMeter,
        labels: MlxLabelAudit,
        events: EventLog,
        switches: SwitchMeter,
    ) -> None:
        self.model, self.optimizer, self.calls = model, optimizer, calls
        self.labels, self.events, self.switches = labels, events, switches
        self.keeps = config.meters.tensors
        self.block: type[nn.Module] = type(model.layers[0])
        self.plain: tracing.Call = self.block.__call__
        self.accumulation = config.train.accumulation
        # mlx-lm's own lengths make its loss count the token after the last one.
        self.surplus = 1 if config.backend.lengths == "exact" else 0
        self.update = UpdateAudit(Formula.of(config))
        self.tokens = self.count = 0
        self.current: MicroBatch | None = None
        self.traced: dict[Signature, int] = {}

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Read everything meanwhile, and write what is known only at the end."""
        with watching(self._meters(), self.events.write):
            yield
            self._flush()

    def _meters(self) -> tuple[Meter, ...]:
        return (
            # mlx-lm's gradient checkpointing rewrites the class of the decoder's blocks for good.
            Meter("blocks", (), lambda: tracing.calling(self.block, self.plain)),
            Meter(
                "compute",
                (Compute, Device),
                lambda: tracing.watch(self.calls),
                lambda: (self.calls.compute_event(self.model), self.calls.device_event(self.model)),
            ),
            # These see training through the batches that they feed it.
            Meter("batches", (MicroBatch, StepLoss, OptimizerStep)),
            Meter("switches", (Switches,), read=lambda: [self.switches.event()]),
        )

    def feed(self, *args: Any, **kwargs: Any) -> Iterator[tuple[mx.array, mx.array]]:
        """Yield the batches of mlx-lm's `iterate_batches`; takes its arguments, and its place."""
        for batch, lengths in trainer.iterate_batches(*args, **kwargs):
            self._flush()
            real = int(lengths[:, 1].sum().item())
            exact = lengths - mx.array([0, self.surplus])
            self._look(batch, exact, real)
            self.calls.calls, self.calls.live = 0, True
            yield batch, exact

    def _look(self, batch: mx.array, lengths: mx.array, real: int) -> None:
        """Look at a batch before it is trained on; take our own gradient in the first steps."""
        step, part = divmod(self.count, self.accumulation)
        audited, found = 0, Found()
        if self.count == 0:
            self._keep(0)
        if step < AUDITED_STEPS:
            sees = counted(trainer.default_loss, batch, lengths, self.labels.vocabulary)
            sizes = lengths[:, 1] + self.surplus
            audited, found = batch.shape[0], self.labels.look(batch, sizes, sees)
            if part == 0:
                self.update.begin(self.model)
            # Without checkpointing, which is not to change what a gradient is.
            with tracing.calling(self.block, self.plain):
                self.update.add(self.model, batch, sees)
        rows, columns = batch.shape
        self.tokens += real
        self.current = MicroBatch(
            step,
            rows,
            columns,
            real,
            audited,
            found.faithful,
            layer_calls=(),
            wrong=dict(found.wrong),
            cut=found.cut,
        )

    def _flush(self) -> None:
        """Write what is over: a micro-batch, and with the last of a step the step."""
        self.calls.live = False
        if self.current is None:
            return
        part = self.count % self.accumulation
        signature = (self.current.columns, part == 0, part == self.accumulation - 1)
        # A step that wasn't traced again ran what was traced for it before.
        calls = self.calls.calls or self.traced.get(signature, 0)
        self.traced[signature] = calls
        self.events.write(replace(self.current, layer_calls=(calls,)))
        self.current = None
        self.count += 1
        if self.count % self.accumulation == 0:
            self._stepped(self.count // self.accumulation - 1)

    def _keep(self, step: int) -> None:
        """Keep parameters as they are after so many steps."""
        if self.keeps:
            for name, parameter in tensors.trained(self.model):
                self.events.keep(TensorKey("parameter", step, name), parameter)

    def _stepped(self, step: int) -> None:
        self.switches.look(step)
        self._keep(step + 1)
        errors = None
        if step < AUDITED_STEPS:
            errors = self.update.errors(self.model, self.optimizer, step)
            tokens = self.update.tokens
            self.events.write(StepLoss(step, self.update.nats / max(tokens, 1), tokens))
        self.events.write(
            OptimizerStep(
                step=step,
                learning_rates=(float(self.optimizer.learning_rate.item()),),
                gradient_norm=None,
                deviation=None if errors is None else errors.update,
                gradient_error=None if errors is None else errors.gradient,
                moved=None if errors is None else errors.moved,
            )
        )
