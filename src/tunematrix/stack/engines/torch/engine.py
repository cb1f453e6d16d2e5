"""The engine of PyTorch: its models are trained under all meters, saved, and loaded again."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from torch import nn
from transformers import PreTrainedModel

from tunematrix.configuration import adapters
from tunematrix.evidence.events import (
    AdapterShare,
    AdapterUse,
    Event,
    Held,
    Memory,
    Throughput,
    Trainable,
)
from tunematrix.evidence.log import EventLog
from tunematrix.stack.adapters import Format
from tunematrix.stack.backends.common import allocator_peak
from tunematrix.stack.engines.common import AdapterLogits, Base
from tunematrix.stack.engines.examples import Data, Example
from tunematrix.stack.engines.torch import (
    loaders,
    loops,
    ranks,
    switches,
    using,
)
from tunematrix.stack.engines.torch.meters import (
    formula,
    held,
    merged,
    parameters,
    scale,
)
from tunematrix.stack.engines.torch.meters.always_on import TorchMeters
from tunematrix.stack.engines.torch.methods import TorchLora, starting
from tunematrix.stack.engines.torch.models import TorchModels
from tunematrix.stack.engines.torch.training import TorchTraining
from tunematrix.stack.yardsticks import starts
from tunematrix.stack.yardsticks.audit import MEMORY_STEPS
from tunematrix.stack.yardsticks.independence import AdapterStart
from tunematrix.stack.yardsticks.shares import Stored
from tunematrix.stack.yardsticks.switches import SwitchMeter


class TorchEngine(TorchModels):
    """One cell's models, trained and saved; the methods are those of `common.Engine`.

    Attributes:
        switches: those of the whole process, as the backend left them.
        beside: what was in memory then.
    """

    adapter_format: Format = "peft"

    def begin(self) -> dict[str, Any]:
        """Seed everything and claim the device; return what now determines the figures."""
        train = self.config.train
        determinants = self.backend.begin(train.seed, train.threads)
        self.switches, self.beside = SwitchMeter(switches.read), held.HeldMeter()
        return determinants

    def attach(self, model: PreTrainedModel, base: Base) -> nn.Module:
        """Attach the method, with the conventions that its quantizer's users rely on."""
        train = self.config.train
        checkpointing = train.gradient_checkpointing
        if checkpointing:
            model.config.use_cache = False
        kbit = self.quantizer.prepares_for_kbit
        attached = self.method.attach(model, base, kbit, checkpointing)
        if starts.is_drawn(train):
            starting.redraw(attached, train.seed, self.config.method.name)
        return attached

    def trainable(self, model: nn.Module, base: Base) -> Trainable:
        """Compare what would be trained with what the method must train."""
        return parameters.trainable(model, self.method.must_train(base))

    def adapter_start(self, model: nn.Module, base: Base) -> AdapterStart:
        """Measure the first factors of all adapters."""
        return formula.start(model, base)

    def memory_beside(self, model: nn.Module, when: str) -> Held:
        """Count what is in memory beside a model, "before" training it or "after"."""
        return self.beside.measure(model, self.quantizer, when)

    def train(
        self, model: nn.Module, base: Base, data: Data, events: EventLog, output: Path
    ) -> Iterator[Event]:
        """Train in place under all always-on meters; the trainer's own files go to `output`.

        Return what there is to measure of the trained model; it is measured as it is read.
        """
        before = parameters.snapshot(model, self.quantizer)
        training = self.training(data, output)
        trained = ranks.sharded(model) if self.config.launcher.shards else model
        order = loops.order_of(self.config, self.method)
        meters = TorchMeters(
            self.config,
            data,
            self.tokenizer,
            events,
            trained,
            model,
            self.switches,
            partial(self.beside.measure, model, self.quantizer, "during"),
            (before,),
            order,
        )
        run_loop = loops.of(self.config, self.method)(trained, training, meters.logged)
        with meters.watch(base):
            started = perf_counter()
            run_loop()
            self.backend.synchronize()
            seconds = perf_counter() - started - training.idle.seconds
        # A trainer leaves its autocast on the model: one that is loaded would round elsewhere.
        extract_model_from_parallel(model, keep_fp32_wrapper=False)
        events.write(Throughput(meters.tokens, seconds))
        kept = ranks.count_kept(trained)
        ranks.gather(trained, model)
        if ranks.are_many():
            events.write(ranks.report(model, kept, meters.batches, meters.coverage))
        return self._examined(model, base, before, meters)

    def _examined(
        self,
        model: nn.Module,
        base: Base,
        before: parameters.TorchSnapshot,
        meters: TorchMeters,
    ) -> Iterator[Event]:
        """Yield what has changed, and how far an adapter is from its method's formula."""
        yield parameters.compare(before, model, self.quantizer)
        yield from meters.compare_with_base(lambda: self.load(base))
        if self.method.has_scale:
            yield scale.measure(model, base, self.placement.weights)
        if not self.config.method.trains_base:
            scaled = partial(adapters.factor, self.config.method.implementation)
            yield formula.measure(model, base, self.placement.weights, scaled, self.quantizer)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write what was trained into `folder`."""
        self.method.save(model, folder)

    def restore(
        self, base: Base, folder: Path, dtypes: Mapping[str, torch.dtype] = MappingProxyType({})
    ) -> nn.Module:
        """Load what `save` wrote onto a freshly loaded base, parameters in `dtypes` if named."""
        return loaders.cast(self.method.load(self.load(base), base, folder), dtypes)

    def merge(self, base: Base, adapter: Path, folder: Path) -> nn.Module:
        """Merge a saved adapter into a fresh base; save and load it where its quantizer can.

        Raises:
            ValueError: the method leaves no adapter behind.
        """
        return self._saved(base, adapter).merge(folder)

    def shares(self, model: nn.Module, base: Base, adapter: Path) -> tuple[AdapterShare, ...]:
        """Measure how much of a saved adapter is in each layer of what it was merged into."""
        places = self._adapters(adapter).values()
        found = [merged.of_linears(place, base.linears) for place in places]
        embedded = [merged.of_embedding(place, base.embedding) for place in places]
        theory = self.config.quantizer.theory
        rounding = None if theory is None else theory.rounding
        how = Stored(rounding, self.config.precision.weights)
        fresh, plainly = self.load(base), Stored(None, self.config.precision.weights)
        return (
            *merged.shares_beside(model, fresh, found, self.quantizer, how),
            *merged.shares_beside(model, fresh, embedded, self.quantizer, plainly),
        )

    def uses(
        self,
        base: Base,
        adapter: Path,
        dtypes: Mapping[str, torch.dtype],
        probe: Sequence[Example],
        due: AdapterLogits,
    ) -> Iterator[AdapterUse]:
        """Do with a saved adapter, loaded in `dtypes`, what people do, and compare with `due`."""
        user = using.AdapterUser(
            load=lambda: self.restore(base, adapter, dtypes),
            fresh=lambda: self.load(base),
            logits=lambda model, gradient: self.logits(model, probe, gradient=gradient),
            due=due,
            merges=self.quantizer.settings(self.placement) == {}
            and self.placement.weights == torch.float32,
            embedding=base.embedding,
        )
        return user.uses(self._adapters(adapter))

    def _adapters(self, folder: Path) -> dict[str, Path]:
        """Return where the active adapters are that `save` wrote, the trained one first."""
        return self.method.folders(folder) if isinstance(self.method, TorchLora) else {"": folder}

    def ways(self, base: Base, folder: Path, target: Path) -> Mapping[str, Callable[[], nn.Module]]:
        """Return each way in which users load what `save` wrote."""
        return self._saved(base, folder).ways(target)

    def _saved(self, base: Base, folder: Path) -> loaders.Saved:
        return loaders.Saved(
            folder,
            self.quantizer,
            self.placement,
            base.linears,
            original=self._plain,
            fresh=lambda: self.load(base),
            restore=lambda: self.restore(base, folder),
        )

    def allocator_peak(self, base: Base, data: Data, output: Path) -> Memory:
        """Train a fresh model for a few steps and return the allocator's peak meanwhile.

        Raises:
            ValueError: several processes train, and only one of them comes here.
        """
        if ranks.are_many():
            message = "meters.allocator takes one process; use launcher single"
            raise ValueError(message)
        gc.collect()
        short = self.config.train.model_copy(update={"max_steps": MEMORY_STEPS})
        training = replace(self.training(data, output), settings=short)
        attached = self.attach(self.load(base), base)
        run_loop = loops.of(self.config, self.method)(attached, training, lambda _: None)
        peak = allocator_peak(self.backend, run_loop)
        return Memory("allocator_peak", peak, self.backend.allocator_method)

    def training(self, data: Data, output: Path) -> TorchTraining:
        """Say what all loops need to know."""
        config = self.config
        return TorchTraining(
            settings=config.train,
            optimizer=config.optimizer,
            scheduler=config.scheduler.name,
            data=config.data,
            dpo=config.dpo,
            rows=data.rows,
            examples=data.examples,
            held_out=data.held_out_rows,
            tokenizer=self.tokenizer,
            compute=config.precision.compute,
            device=self.backend.device,
            device_settings=self.backend.trainer_settings(),
            output=output,
        )
