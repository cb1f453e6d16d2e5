"""The engine of MLX: its models are trained under all meters, saved, and loaded again."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.optimizers import Optimizer
from mlx.utils import tree_unflatten
from mlx_lm import utils as mlx_lm_utils
from mlx_lm.tuner import trainer
from mlx_lm.tuner.lora import LoRALinear
from mlx_lm.tuner.utils import load_adapters, remove_lora_layers

from tunematrix.configuration import adapters
from tunematrix.configuration.settings import TrainSettings
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
from tunematrix.stack.engines.mlx import methods, optimizers, switches
from tunematrix.stack.engines.mlx.loading import load
from tunematrix.stack.engines.mlx.meters import (
    formula,
    merged,
    parameters,
    scale,
    trained,
)
from tunematrix.stack.engines.mlx.meters.always_on import MlxMeters
from tunematrix.stack.engines.mlx.meters.batches import MlxLabelAudit, known_rows
from tunematrix.stack.engines.mlx.meters.tracing import CallMeter
from tunematrix.stack.engines.mlx.models import MlxModels
from tunematrix.stack.engines.mlx.training import MlxTraining
from tunematrix.stack.mlx_releases import load_trusted
from tunematrix.stack.yardsticks import starts
from tunematrix.stack.yardsticks.audit import MEMORY_STEPS
from tunematrix.stack.yardsticks.independence import AdapterStart
from tunematrix.stack.yardsticks.shares import Stored
from tunematrix.stack.yardsticks.switches import SwitchMeter


class MlxEngine(MlxModels):
    """One cell's models, trained and saved; the methods are those of `common.Engine`.

    Attributes:
        switches: those of the whole process, as the backend left them.
        beside: bytes that were in memory then.
    """

    adapter_format: Format = "mlx-lm"

    def begin(self) -> dict[str, Any]:
        """Seed everything and claim the device; return what now determines the figures."""
        train = self.config.train
        determinants = self.backend.begin(train.seed, train.threads)
        self.switches = SwitchMeter(switches.read)
        self.beside = parameters.active_bytes()
        return determinants

    def attach(self, model: nn.Module, base: Base) -> nn.Module:
        """Make a loaded model trainable by the configured method."""
        train = self.config.train
        self.method.attach(model)
        if starts.is_drawn(train):
            methods.redraw(model, train.seed, self.config.method.name)
        parameters.compute(model)
        return model

    def trainable(self, model: nn.Module, base: Base) -> Trainable:
        """Compare what would be trained with what the method must train."""
        return parameters.trainable(model, self.method.must_train(base))

    def adapter_start(self, model: nn.Module, base: Base) -> AdapterStart:
        """Measure the first factors of all adapters."""
        return formula.start(model, base)

    def memory_beside(self, model: nn.Module, when: str) -> Held:
        """Count what is in memory beside a model, "before" training it or "after"."""
        return parameters.memory_beside(model, when, self.beside)

    def train(
        self, model: nn.Module, base: Base, data: Data, events: EventLog, output: Path
    ) -> Iterator[Event]:
        """Train in place under all always-on meters; the trainer's own files go to `output`.

        Return what there is to measure of the trained model; it is measured as it is read.

        Raises:
            ValueError: mlx-lm has no trainer for the configured recipe.
        """
        if self.config.recipe.prefers:
            message = "mlx-lm has no trainer of preferences; take the recipe sft"
            raise ValueError(message)
        before = parameters.snapshot(model)
        optimizer = optimizers.build(self.config)
        meters = MlxMeters(
            self.config,
            model,
            optimizer,
            CallMeter(list(base_layers(model, base)), self.backend.place),
            MlxLabelAudit(known_rows(self.config, data, self.tokenizer), len(self.tokenizer)),
            events,
            self.switches,
        )
        training = self._training(self.config.train, data, output)
        with meters.watch():
            started = perf_counter()
            training.run(model, optimizer, meters.feed, events.write)
            self.backend.synchronize()
            seconds = perf_counter() - started
        events.write(Throughput(meters.tokens, seconds))
        return self._examined(model, base, before, optimizer)

    def _examined(
        self, model: nn.Module, base: Base, before: parameters.MlxSnapshot, optimizer: Optimizer
    ) -> Iterator[Event]:
        """Yield what has changed, and how far an adapter is from its method's formula."""
        yield parameters.compare(before, model)
        yield trained.dtypes(model, optimizer)
        if (dropout := trained.dropout(model, base)) is not None:
            yield dropout
        if self.method.has_scale:
            yield scale.measure(model, base, self.dtype)
        if not self.config.method.trains_base:
            scaled = partial(adapters.factor, self.config.method.implementation)
            yield formula.measure(model, base, self.dtype, scaled)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write what was trained into `folder`."""
        methods.save(model, self.method, folder)

    def restore(
        self, base: Base, folder: Path, dtypes: Mapping[str, mx.Dtype] = MappingProxyType({})
    ) -> nn.Module:
        """Load what `save` wrote onto a freshly loaded base; mlx-lm keeps the dtypes it finds."""
        return load_adapters(self.load(base), str(folder))

    def merge(self, base: Base, adapter: Path, folder: Path) -> nn.Module:
        """Fuse a saved adapter into a fresh base as `mlx_lm.fuse` does, and load the result.

        Raises:
            ValueError: the method leaves no adapter behind.
        """
        model, config = load(self.checkpoint, self.dtype, self.quantizer)
        load_adapters(model, str(adapter))
        fused = [(name, m.fuse()) for name, m in model.named_modules() if hasattr(m, "fuse")]
        if not fused:
            message = f"method {self.config.method.name} has no adapter to merge"
            raise ValueError(message)
        model.update_modules(tree_unflatten(fused))
        mlx_lm_utils.save(
            folder, self.checkpoint, model, self.tokenizer, config, donate_model=False
        )
        merged, _ = load_trusted(folder)
        return merged

    def shares(self, model: nn.Module, base: Base, adapter: Path) -> tuple[AdapterShare, ...]:
        """Measure how much of a saved adapter is in each layer of what it was merged into."""
        theory = self.config.quantizer.theory
        rounding = None if theory is None else theory.rounding
        how = Stored(rounding, self.config.precision.weights)
        return merged.shares(model, self.load(base), base, adapter, how)

    def uses(
        self,
        base: Base,
        adapter: Path,
        dtypes: Mapping[str, mx.Dtype],
        probe: Sequence[Example],
        due: AdapterLogits,
    ) -> Iterator[AdapterUse]:
        """Take a saved adapter off again, which is all that mlx-lm can do with one in memory."""
        model = remove_lora_layers(self.restore(base, adapter))
        apart = float(np.abs(self.logits(model, probe) - due.base).max())
        yield AdapterUse("taken off", apart)

    def ways(self, base: Base, folder: Path, target: Path) -> Mapping[str, Callable[[], nn.Module]]:
        """Return each way in which users load what `save` wrote."""
        found: dict[str, Callable[[], nn.Module]] = {"reloaded": lambda: self.restore(base, folder)}
        if hasattr(self.method, "settings"):
            found["merged"] = lambda: self.merge(base, folder, target)
        return found

    def allocator_peak(self, base: Base, data: Data, output: Path) -> Memory:
        """Train a fresh model for a few steps and return the allocator's peak meanwhile."""
        gc.collect()
        short = self.config.train.model_copy(update={"max_steps": MEMORY_STEPS})
        model = self.attach(self.load(base), base)
        run = partial(
            self._training(short, data, output).run,
            model,
            optimizers.build(self.config),
            trainer.iterate_batches,
            lambda _: None,
        )
        return Memory(
            "allocator_peak", allocator_peak(self.backend, run), self.backend.allocator_method
        )

    def _training(self, settings: TrainSettings, data: Data, output: Path) -> MlxTraining:
        packing = self.config.data.packing
        return MlxTraining(settings, data, packing, self.tokenizer, output)


def base_layers(model: nn.Module, base: Base) -> list[nn.Module]:
    """Return what multiplies for the base in each of its linear layers, adapted or not."""
    modules = dict(model.named_modules())
    layers = (modules[name] for name in base.linears)
    # mlx-lm's DoRA takes its base's weight and multiplies by itself.
    return [layer.linear if isinstance(layer, LoRALinear) else layer for layer in layers]
