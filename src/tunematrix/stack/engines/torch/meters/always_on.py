"""All always-on meters around one stretch of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from tunematrix.evidence.events import Event, MicroBatch, OptimizerStep
from tunematrix.evidence.log import EventLog
from tunematrix.stack.engines.audit import Formula
from tunematrix.stack.engines.common import Base
from tunematrix.stack.engines.examples import Data
from tunematrix.stack.engines.process_memory import ProcessPeak
from tunematrix.stack.engines.torch.meters import batches, compute, dropout, dtypes, optimizer
from tunematrix.stack.engines.torch.meters.labels import LabelAudit
from tunematrix.stack.engines.torch.methods.common import adapted_linears


class TrainingMeters:
    """Reads shapes, labels, dtypes, devices, steps and the process's peak while training.

    Attributes:
        tokens: real positions that entered the model so far.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        data: Data,
        tokenizer: PreTrainedTokenizerBase,
        events: EventLog,
    ) -> None:
        self.config = config
        self.events = events
        self.tokens = 0
        packed = bool(config["data"]["packing"])
        audit = LabelAudit(data, tokenizer, packed, int(config["train"]["max_length"]))
        self.batches = batches.BatchMeter(audit, self._write)
        self.compute = compute.ComputeMeter()
        self.dtypes = dtypes.DtypeMeter()

    @contextmanager
    def watch(self, model: nn.Module, base: Base) -> Iterator[None]:
        """Attach every meter, and write what they saw at the end."""
        linears = list(adapted_linears(model, base))
        # Beneath an adapter, only the base's own part of the layer says what the base computed in.
        bases = [getattr(layer, "base_layer", layer) for layer in linears]
        dropped = dropout.DropoutMeter(linears)
        with ExitStack() as stack:
            stack.enter_context(batches.watch(model, linears[0], self.batches))
            stack.enter_context(compute.watch(bases, self.compute))
            stack.enter_context(dropout.watch(dropped))
            stack.enter_context(dtypes.watch(self.dtypes))
            stack.enter_context(optimizer.watch(model, Formula.of(self.config), self._stepped))
            peak = ProcessPeak.begin()
            yield
            self.events.write(peak.end())
        for event in (*self.compute.events(model), dropped.event(), self.dtypes.event()):
            self.events.write(event)

    def _stepped(self, step: OptimizerStep) -> None:
        self.batches.next_step()
        self._write(step)

    def _write(self, event: Event) -> None:
        if isinstance(event, MicroBatch):
            self.tokens += event.tokens
        self.events.write(event)
