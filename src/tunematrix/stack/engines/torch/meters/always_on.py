"""All meters around one stretch of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from tunematrix.evidence.events import (
    Event,
    LoggedEvaluation,
    LoggedPreference,
    LoggedStep,
    MicroBatch,
    OptimizerStep,
)
from tunematrix.evidence.log import EventLog
from tunematrix.stack.engines.audit import Formula
from tunematrix.stack.engines.common import Base
from tunematrix.stack.engines.examples import Data
from tunematrix.stack.engines.process_memory import ProcessPeak
from tunematrix.stack.engines.switches import SwitchMeter
from tunematrix.stack.engines.torch import ranks
from tunematrix.stack.engines.torch.meters import (
    batches,
    compute,
    continuity,
    coverage,
    dropout,
    dtypes,
    evaluations,
    gradients,
    optimizer,
    preferences,
    tensors,
)
from tunematrix.stack.engines.torch.meters.labels import LabelAudit
from tunematrix.stack.engines.torch.methods.common import adapted_linears, one_of_each_block


class TrainingMeters:
    """Reads shapes, labels, dtypes, devices, steps and the process's peak while training.

    Args:
        trained: what the loop trains; model: the same with whole parameters, if it spreads them.
        switches: those of the whole process, as they are to stay.

    Attributes:
        tokens: real positions that entered the model so far.
        stretch: that of the last optimizer step.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        data: Data,
        tokenizer: PreTrainedTokenizerBase,
        events: EventLog,
        trained: nn.Module,
        model: nn.Module,
        switches: SwitchMeter,
    ) -> None:
        self.config = config
        self.trained = trained
        self.events = events
        self.switches = switches
        self.tokens = 0
        self.preferences: preferences.Losses | None = None
        self.coverage: coverage.CoverageMeter | None = None
        self.evaluations: evaluations.EvaluationMeter | None = None
        refresh = partial(ranks.gather, trained, model)
        self.gradients = gradients.GradientAudit(config, model, refresh, self._write)
        if config["recipe"].get("prefers"):
            self.preferences = preferences.Losses.of(config)
            pairs = preferences.PairAudit(data.texts, tokenizer)
            self.batches = batches.BatchMeter(pairs, self.preferences, self._write)
        else:
            self._supervise(data, tokenizer)
        self.compute = compute.ComputeMeter(is_ours=self._is_ours)
        self.dtypes = dtypes.DtypeMeter()
        self.stretch = 0

    def _supervise(self, data: Data, tokenizer: PreTrainedTokenizerBase) -> None:
        packed, longest = bool(self.config["data"]["packing"]), self.config["train"]["max_length"]
        self.coverage = coverage.CoverageMeter([e.ids[: int(longest)] for e in data.examples])
        known = partial(LabelAudit, tokenizer=tokenizer, packed=packed, longest=int(longest))
        rows = known(data.examples, data.texts, saw=self.coverage.saw)
        self.batches = batches.BatchMeter(rows, self.gradients, self._write)
        self.evaluations = evaluations.EvaluationMeter(
            known(data.held_out, data.held_out_texts),
            len(data.held_out_rows),
            str(self.config["backend"]["device"]),
        )

    @contextmanager
    def watch(self, base: Base) -> Iterator[None]:
        """Attach every meter, and write what they saw at the end."""
        model, formula = self.trained, Formula.of(self.config)
        linears, inside = list(adapted_linears(model, base)), one_of_each_block(model, base)
        # Beneath an adapter, only the base's own part of the layer says what the base computed in.
        bases = [getattr(layer, "base_layer", layer) for layer in linears]
        checkpointing = bool(self.config["train"]["gradient_checkpointing"])
        dropped = dropout.DropoutMeter(linears, repeats=checkpointing, is_ours=self._is_ours)
        unbroken = continuity.ContinuityMeter(model)
        with ExitStack() as stack:
            stack.enter_context(batches.watch(model, inside, self.batches))
            if self.evaluations is not None:
                stack.enter_context(evaluations.watch(model, self.evaluations))
            stack.enter_context(compute.watch(model, bases, self.compute))
            stack.enter_context(dropout.watch(dropped))
            stack.enter_context(dtypes.watch(self.dtypes))
            stack.enter_context(
                optimizer.watch(model, formula, self.gradients.compare, self._stepped)
            )
            stack.enter_context(continuity.watch(unbroken))
            if self.config["meters"]["tensors"]:
                stack.enter_context(tensors.watch(model, self.events.keep))
            peak = ProcessPeak.begin()
            yield
            self.events.write(peak.end())
        seen = (dropped.event(), self.dtypes.event(), unbroken.event(), self.switches.event())
        for event in (*self.compute.events(model), *seen):
            self.events.write(event)
        if self.coverage is not None:
            self.events.write(self.coverage.event(ranks.count()))

    def logged(self, line: LoggedStep | LoggedEvaluation | LoggedPreference) -> None:
        """Write what the trainer logged; beside an evaluation's loss, what was seen of it."""
        self.events.write(line)
        if isinstance(line, LoggedEvaluation) and self.evaluations is not None:
            self.events.write(self.evaluations.told(line.step))

    def held_against(self, load: Callable[[], nn.Module]) -> Iterator[Event]:
        """Yield what has to be held against the base, which `load` loads where it is needed."""
        if self.preferences is not None:
            yield from self.preferences.held_against(load())

    def _is_ours(self) -> bool:
        return self.batches.busy

    def _stepped(self, step: OptimizerStep) -> None:
        self.batches.next_step()
        self.switches.look(step.step)
        if step.stretch != self.stretch:
            # Whoever goes on may have wrapped the model otherwise.
            self.stretch = step.stretch
            self.compute.looks.clear()
        self._write(step)

    def _write(self, event: Event) -> None:
        if isinstance(event, MicroBatch):
            self.tokens += event.tokens
        self.events.write(event)
