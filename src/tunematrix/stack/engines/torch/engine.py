"""The engine of PyTorch: a configuration goes in; models are loaded, trained, saved and scored."""

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
from datasets import disable_progress_bars as disable_datasets_bars
from hydra.utils import instantiate
from torch import nn
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar as disable_transformers_bars

from tunematrix.configuration import Configuration, adapters
from tunematrix.evidence.events import (
    AdapterShare,
    AdapterUse,
    BaseWeights,
    Device,
    Event,
    Held,
    Memory,
    Storage,
    Throughput,
    Trainable,
)
from tunematrix.evidence.log import EventLog
from tunematrix.stack.adapters import Format
from tunematrix.stack.backends.common import TorchBackend, allocator_peak
from tunematrix.stack.engines.common import AdapterLogits, Base, Floats, Sampling, open_checkpoint
from tunematrix.stack.engines.examples import Data, Example
from tunematrix.stack.engines.torch import (
    generating,
    loaders,
    loops,
    ranks,
    scoring,
    switches,
    using,
)
from tunematrix.stack.engines.torch.meters import (
    compute,
    formula,
    held,
    merged,
    parameters,
    scale,
    storage,
    weights,
)
from tunematrix.stack.engines.torch.meters.always_on import TorchMeters
from tunematrix.stack.engines.torch.methods import TorchLora, starting
from tunematrix.stack.engines.torch.methods.common import TorchMethod, describe
from tunematrix.stack.engines.torch.padding import TorchBatch, pad
from tunematrix.stack.engines.torch.training import TorchTraining
from tunematrix.stack.quantizers.common import Placement, TorchQuantizer, from_pretrained
from tunematrix.stack.yardsticks import starts
from tunematrix.stack.yardsticks.audit import MEMORY_STEPS
from tunematrix.stack.yardsticks.independence import AdapterStart
from tunematrix.stack.yardsticks.shares import Stored
from tunematrix.stack.yardsticks.switches import SwitchMeter


def load_original(folder: Path, backend: TorchBackend) -> PreTrainedModel:
    """Load a checkpoint as it is, in float32, onto a backend's device."""
    placement = Placement(backend.device, torch.float32, torch.float32, cache=folder)
    return from_pretrained(folder, placement).to(backend.device)


class TorchEngine:
    """One cell's configuration, made real; the methods are those of `common.Engine`.

    Attributes:
        backend, quantizer, method: what the configuration names.
        checkpoint: the base model's folder; tokenizer: that folder's.
        placement: where and in which dtypes models are loaded.
        switches: those of the whole process, as the backend left them.
        beside: what was in memory then.
    """

    adapter_format: Format = "peft"

    def __init__(self, config: Configuration) -> None:
        disable_datasets_bars()
        disable_transformers_bars()
        self.config = config
        self.backend: TorchBackend = instantiate(config.backend.implementation, _convert_="all")
        quantizer = config.quantizer.implementation
        self.quantizer: TorchQuantizer = instantiate(quantizer, _convert_="all")
        self.method: TorchMethod = instantiate(config.method.implementation, _convert_="all")
        self.checkpoint, self.tokenizer = open_checkpoint(config)
        # Trained weights stay in full precision and autocast lowers the arithmetic.
        in_full = config.method.trains_base
        self.placement = Placement(
            device=self.backend.device,
            weights=getattr(torch, "float32" if in_full else config.precision.weights),
            compute=getattr(torch, config.precision.compute),
            cache=Path(config.cache_dir),
        )

    def begin(self) -> dict[str, Any]:
        """Seed everything and claim the device; return what now determines the figures."""
        train = self.config.train
        determinants = self.backend.begin(train.seed, train.threads)
        self.switches, self.beside = SwitchMeter(switches.read), held.HeldMeter()
        return determinants

    def original(self) -> PreTrainedModel:
        """Load the checkpoint as it is, in float32."""
        return load_original(self.checkpoint, self.backend)

    def describe(self, model: PreTrainedModel) -> Base:
        """Read a `Base` off an original."""
        return describe(model)

    def load(self, base: Base) -> PreTrainedModel:
        """Load the checkpoint as the configured quantizer stores it."""
        return self.quantizer.load(self.checkpoint, base.linears, self.placement)

    def storage(self, model: nn.Module, base: Base) -> Storage:
        """Count the bytes of a freshly loaded model."""
        return storage.measure(model, base, self.quantizer)

    def weights(self, model: PreTrainedModel, base: Base) -> BaseWeights:
        """Hold a freshly loaded base, layer by layer, against the tensors in its checkpoint."""
        theory = self.config.quantizer.theory
        rounding = None if theory is None else theory.rounding
        layers = weights.Layers(self.quantizer, self.placement.weights, rounding)
        return weights.measure(model, base, weights.Originals(self.checkpoint), layers)

    def locate(self, model: nn.Module, examples: Sequence[Example]) -> Device:
        """Say where parameters are, and where a forward pass over `examples` computes."""
        with compute.places(model) as activations:
            self.logits(model, examples)
        return compute.device_event(model, activations)

    def logits(
        self, model: nn.Module, examples: Sequence[Example], *, gradient: bool = False
    ) -> Floats:
        """Return logits at real positions, (tokens, vocabulary), in evaluation mode."""
        batch = self._padded(examples)
        found: Floats = scoring.logits(model, batch, gradient=gradient).cpu().numpy()
        return found.copy()  # which keeps no tensor alive

    def loss(self, model: nn.Module, examples: Sequence[Example]) -> tuple[float, int]:
        """Return (mean nats per counted token, counted tokens) in evaluation mode."""
        return scoring.loss(model, examples, self.tokenizer, self.backend.device)

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
            events.write(ranks.report(model, kept, meters.batches))
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

    def dtypes(self, model: nn.Module) -> Mapping[str, torch.dtype]:
        """Return the dtype of each parameter, by name."""
        return {name: parameter.dtype for name, parameter in model.named_parameters()}

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
        found = [merged.of_linears(place, base.linears) for place in self._adapters(adapter)]
        theory = self.config.quantizer.theory
        rounding = None if theory is None else theory.rounding
        how = Stored(rounding, self.config.precision.weights)
        return merged.shares_beside(model, self.load(base), found, self.quantizer, how)

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
        )
        return user.uses(self._adapters(adapter)[0])

    def _adapters(self, folder: Path) -> list[Path]:
        """Return where the active adapters are that `save` wrote, the trained one first."""
        own = self.method.folders(folder) if isinstance(self.method, TorchLora) else {"": folder}
        return list(own.values())

    def ways(self, base: Base, folder: Path, target: Path) -> Mapping[str, Callable[[], nn.Module]]:
        """Return each way in which users load what `save` wrote."""
        return self._saved(base, folder).ways(target)

    def dequantized(self, base: Base) -> PreTrainedModel:
        """Load a plain model with the weights that the quantizer's stand for."""
        return loaders.dequantized(self.load(base), self._plain(), base.linears, self.quantizer)

    def _plain(self) -> PreTrainedModel:
        return from_pretrained(self.checkpoint, self.placement).to(self.backend.device)

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

    def generate(
        self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], sampling: Sampling
    ) -> list[list[int]]:
        """Continue prompts; return each one's new tokens, the end token included if it came."""
        theory = self.config.quantizer.theory
        # Where what enters a layer is rounded, all texts of a pass have their say in it.
        alone = theory is not None and theory.activation_bits is not None
        decoder = generating.Decoder(self.tokenizer, self.backend.device, alone)
        return decoder.generate(model, prompts, sampling)

    def gradients(self, model: nn.Module, examples: Sequence[Example]) -> Mapping[str, Floats]:
        """Return the gradient of the mean nats for each parameter of an original, by its name."""
        return scoring.gradients(model, self._padded(examples))

    def descend(
        self, model: nn.Module, batches: Sequence[Sequence[Example]], rate: float
    ) -> tuple[float, ...]:
        """Train every parameter by plain SGD, a step a batch; return each batch's loss before."""
        return scoring.descend(model, map(self._padded, batches), rate)

    def _padded(self, examples: Sequence[Example]) -> TorchBatch:
        return pad(examples, self.tokenizer, self.backend.device)

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
