"""All meters around one stretch of training."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from tunematrix.configuration import Configuration
from tunematrix.evidence.events import (
    AdapterDropout,
    Arrivals,
    Compiled,
    Compute,
    Continuity,
    Coverage,
    Device,
    Draws,
    EvaluationPasses,
    Event,
    Held,
    LoggedEvaluation,
    LoggedPreference,
    LoggedStep,
    MicroBatch,
    OptimizerStep,
    StepLoss,
    Switches,
    TrainedDtypes,
)
from tunematrix.evidence.log import EventLog
from tunematrix.stack.engines import rules
from tunematrix.stack.engines.common import Base
from tunematrix.stack.engines.examples import Data
from tunematrix.stack.engines.known_rows import KnownRows
from tunematrix.stack.engines.torch import ranks
from tunematrix.stack.engines.torch.meters import (
    arrivals,
    batches,
    compiling,
    compute,
    continuity,
    copies,
    coverage,
    dropout,
    dtypes,
    evaluations,
    gradients,
    held,
    optimizer,
    preferences,
    tensors,
)
from tunematrix.stack.engines.torch.meters.labels import TorchLabelAudit
from tunematrix.stack.engines.torch.methods.common import adapted_linears, one_of_each_block
from tunematrix.stack.engines.torch.orders import Order
from tunematrix.stack.yardsticks.audit import Formula
from tunematrix.stack.yardsticks.meters import Meter, watching
from tunematrix.stack.yardsticks.switches import SwitchMeter


class TorchMeters:
    """Reads shapes, labels, dtypes, devices, steps and the process's peak while training.

    Args:
        trained: what the loop trains; model: the same with whole parameters, if it spreads them.
        switches: those of the whole process, as they are to stay.
        held: counts what is in memory beside the model, but for tensors that are known.
        beside: objects whose tensors are known, as those of all meters here are.
        order: in which rows have to come; None where that isn't known.

    Attributes:
        tokens: real positions that entered the model so far.
        stretch: that of the last optimizer step.
    """

    def __init__(
        self,
        config: Configuration,
        data: Data,
        tokenizer: PreTrainedTokenizerBase,
        events: EventLog,
        trained: nn.Module,
        model: nn.Module,
        switches: SwitchMeter,
        held: Callable[[Iterable[torch.Tensor]], Held],
        beside: tuple[object, ...] = (),
        order: Order | None = None,
    ) -> None:
        self.config = config
        self.trained = trained
        self.events = events
        self.switches = switches
        self.held, self.beside = held, beside
        self.tokens = 0
        self.preferences: preferences.DpoLosses | None = None
        self.coverage: coverage.CoverageMeter | None = None
        self.evaluations: evaluations.EvaluationMeter | None = None
        refresh = partial(ranks.gather, trained, model)
        self.gradients = gradients.GradientAudit(config, model, refresh, self._write)
        if config.recipe.prefers:
            self.preferences = preferences.DpoLosses.of(config)
            pairs = preferences.PairAudit.of(data, tokenizer)
            self.batches = batches.BatchMeter(pairs, self.preferences, self._write)
        else:
            self._supervise(data, tokenizer, order)
        self.compute = compute.ComputeMeter(is_ours=self._is_ours)
        self.dtypes = dtypes.DtypeMeter()
        self.stretch = 0

    def _supervise(
        self, data: Data, tokenizer: PreTrainedTokenizerBase, order: Order | None
    ) -> None:
        train, packed = self.config.train, self.config.data.packing
        longest, places = train.longest, None
        if order is not None:
            own = order(len(data.examples), train.batch_size, train.seed)
            batches_of_mine = itertools.islice(own, ranks.number(), None, ranks.count())
            places = itertools.chain.from_iterable(batches_of_mine)
        self.coverage = coverage.CoverageMeter([e.ids[:longest] for e in data.examples], places)
        known = partial(KnownRows, rules=rules.of(tokenizer), longest=longest)
        rows = known(data.examples, data.texts, saw=self.coverage.saw)
        audit = TorchLabelAudit(rows, packed, train.is_flat)
        self.batches = batches.BatchMeter(audit, self.gradients, self._write)
        self.evaluations = evaluations.EvaluationMeter(
            lambda: TorchLabelAudit(known(data.held_out, data.held_out_texts), packed),
            len(data.held_out_rows),
            self.config.backend.device,
            train.label_smoothing,
        )

    def watch(self, base: Base) -> AbstractContextManager[None]:
        """Attach every meter, and write what they saw at the end."""
        return watching(tuple(self._meters(base)), self.events.write)

    def _meters(self, base: Base) -> Iterator[Meter]:
        model = self.trained
        linears, inside = list(adapted_linears(model, base)), one_of_each_block(model, base)
        if self.config.train.is_compiled:
            # Hooks inside would cut the model into pieces: what users compile is another one.
            linears, inside = [], []
            graphs = compiling.CompileMeter(is_ours=self._is_ours)
            yield Meter(
                "compiling",
                (Compiled,),
                lambda: compiling.watch(model, graphs),
                lambda: [graphs.event()],
            )
        # Beneath an adapter, only the base's own part of the layer says what the base computed in.
        bases = [getattr(layer, "base_layer", layer) for layer in linears]
        yield Meter(
            "batches",
            (MicroBatch, Draws, StepLoss),
            lambda: batches.watch(model, inside, self.batches),
        )
        if (seen := self.evaluations) is not None:
            yield Meter("evaluations", (EvaluationPasses,), lambda: evaluations.watch(model, seen))
        yield Meter(
            "compute",
            (Compute, Device),
            lambda: compute.watch(model, bases, self.compute),
            lambda: self.compute.events(model),
        )
        yield from self._meters_of_training(linears)
        if self.config.meters.tensors:
            yield Meter("tensors", (), lambda: tensors.watch(model, self.events.keep))
        yield Meter("switches", (Switches,), read=lambda: [self.switches.event()])
        if (rows := self.coverage) is not None:
            yield Meter("coverage", (Coverage,), read=lambda: [rows.event(ranks.count())])

    def _meters_of_training(self, linears: list[nn.Module]) -> Iterator[Meter]:
        """Yield what looks at adapters and at what the optimizer does."""
        model, formula = self.trained, Formula.of(self.config)
        dropped = dropout.DropoutMeter(linears, is_ours=self._is_ours)
        copied = copies.StepCopies(model)
        unbroken = continuity.ContinuityMeter(copied, goes_back=self.config.train.load_best)
        # Before all that compares them.
        yield Meter("copies", (), lambda: copies.watch(copied))
        yield Meter(
            "dropout",
            (AdapterDropout,),
            lambda: dropout.watch(model, dropped),
            lambda: [dropped.event()],
        )
        yield Meter(
            "dtypes",
            (TrainedDtypes,),
            lambda: dtypes.watch(self.dtypes),
            lambda: [self.dtypes.event()],
        )
        yield Meter(
            "optimizer",
            (OptimizerStep,),
            lambda: optimizer.watch(model, formula, self.gradients.compare, self._stepped),
        )
        yield Meter(
            "continuity",
            (Continuity,),
            lambda: continuity.watch(unbroken),
            lambda: [unbroken.event()],
        )
        if ranks.count() == 1 and not self.config.launcher.shards:
            yield from self._meters_of_each_step(copied, dropped, unbroken)

    def _meters_of_each_step(self, copied: copies.StepCopies, *others: object) -> Iterator[Meter]:
        """Yield what needs whole parameters and all gradients; `others` have tensors as well."""
        coming = arrivals.ArrivalMeter(self.trained, copied, self._is_ours)
        yield Meter(
            "arrivals",
            (Arrivals,),
            lambda: arrivals.watch(coming),
            lambda: [coming.event()],
        )
        own = (self, copied, coming, *others, *self.beside)
        during = held.DuringMeter(self.held, self.config.train.max_steps - 1, own)
        # The last to look, when the others have let go of the step.
        yield Meter("held", (Held,), lambda: held.watch(during), lambda: during.seen)

    def logged(self, line: LoggedStep | LoggedEvaluation | LoggedPreference) -> None:
        """Write what the trainer logged; beside an evaluation's loss, what was seen of it."""
        self.events.write(line)
        if isinstance(line, LoggedEvaluation) and self.evaluations is not None:
            self.events.write(self.evaluations.take(line.step))

    def compare_with_base(self, load: Callable[[], nn.Module]) -> Iterator[Event]:
        """Yield what has to be held against the base, which `load` loads where it is needed."""
        if self.preferences is not None:
            yield from self.preferences.compare_with_base(load())

    def _is_ours(self) -> bool:
        return self.batches.busy

    def _stepped(self, step: OptimizerStep) -> None:
        self.batches.next_step()
        self.switches.look(step.step)
        if step.stretch != self.stretch:
            # Whoever goes on may have wrapped the model otherwise.
            self.stretch = step.stretch
            self.compute.look()
        self._write(step)

    def _write(self, event: Event) -> None:
        if isinstance(event, MicroBatch):
            self.tokens += event.tokens
        self.events.write(event)
