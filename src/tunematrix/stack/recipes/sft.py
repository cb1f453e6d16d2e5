"""Supervised fine-tuning: load, attach, train, save and reload one cell, measuring all the way."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from datasets import disable_progress_bars as disable_datasets_bars
from hydra.utils import instantiate
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar as disable_transformers_bars

from tunematrix.evidence.events import (
    Determinants,
    Evaluation,
    LogitError,
    Memory,
    Reload,
    Throughput,
)
from tunematrix.evidence.log import EventLog
from tunematrix.stack.backends.common import Backend
from tunematrix.stack.engines import plain_loop, scoring, sft_trainer
from tunematrix.stack.engines.examples import Batch, pad
from tunematrix.stack.engines.training import Training, WriteLine
from tunematrix.stack.meters import parameters, scale, storage
from tunematrix.stack.meters.always_on import TrainingMeters
from tunematrix.stack.methods.common import Base, Method, describe
from tunematrix.stack.quantizers.common import Placement, Quantizer, from_pretrained
from tunematrix.stack.recipes.data import Data, prepare
from tunematrix.stack.toyworld import models

PROBE_ROWS = 8
MEMORY_STEPS = 2

Loop = Callable[[nn.Module, Training, WriteLine], Callable[[], object]]
"""Makes ready to train a model; what it returns does it."""

LOOPS: Mapping[str, Loop] = {"sft": sft_trainer.prepare, "plain": plain_loop.prepare}


@dataclass(frozen=True)
class Setup:
    """One cell's configuration, made real.

    Attributes:
        config: the composed configuration; backend, quantizer, method: what it names.
        checkpoint: the base model's folder; tokenizer: that folder's.
        placement: where and in which dtypes models are loaded.
        data: what is trained on and judged by.
    """

    config: Mapping[str, Any]
    backend: Backend
    quantizer: Quantizer
    method: Method
    checkpoint: Path
    tokenizer: PreTrainedTokenizerBase
    placement: Placement
    data: Data

    def load(self, base: Base) -> PreTrainedModel:
        """Load the checkpoint as the quantizer stores it."""
        return self.quantizer.load(self.checkpoint, base.linears, self.placement)


@dataclass(frozen=True)
class Reference:
    """The unquantized original: what it is, and its logits on the probe, (tokens, vocabulary)."""

    base: Base
    probe: Batch
    logits: torch.Tensor


def run(config: Mapping[str, Any], events: EventLog, output_dir: Path) -> None:
    """Run one cell; everything it learns goes to `events`, everything it makes to `output_dir`."""
    saved = output_dir / "model"
    with events.phase("prepare"):
        setup = set_up(config, events)
    with events.phase("reference"):
        reference = measure_reference(setup, events)
    with events.phase("load"):
        model = setup.load(reference.base)
        events.write(storage.measure(model, reference.base, setup.quantizer))
        before = scoring.logits(model, reference.probe, gradient=True)
        error = (before - reference.logits).norm() / reference.logits.norm()
        events.write(LogitError(float(error)))
    with events.phase("attach"):
        attached = attach(setup, model, reference.base)
        events.write(parameters.trainable(attached, setup.method.must_train(reference.base)))
    with events.phase("train"):
        train(setup, attached, reference.base, events, output_dir / "trainer")
    with events.phase("evaluate"):
        events.write(evaluate(setup, attached, "after"))
        after = scoring.logits(attached, reference.probe)
    with events.phase("save"):
        setup.method.save(attached, saved)
    del model, attached
    with events.phase("reload"):
        events.write(reload(setup, reference, saved, before=before, after=after))
    if config["meters"]["allocator"]:
        with events.phase("memory"):
            events.write(allocator_pass(setup, reference.base, output_dir / "memory"))


def set_up(config: Mapping[str, Any], events: EventLog) -> Setup:
    """Instantiate what the configuration names and draw the cell's data."""
    disable_datasets_bars()
    disable_transformers_bars()
    backend: Backend = instantiate(config["backend"]["implementation"])
    determinants = backend.begin(int(config["train"]["seed"]), int(config["train"]["threads"]))
    events.write(Determinants(determinants))
    method: Method = instantiate(config["method"]["implementation"])
    cache = Path(config["cache_dir"])
    checkpoint = models.resolve(config["model"]["path"], cache)
    tokenizer = AutoTokenizer.from_pretrained(
        checkpoint, local_files_only=True, trust_remote_code=False
    )
    # Trained weights stay in full precision and autocast lowers the arithmetic.
    weights = "float32" if config["method"]["trains_base"] else config["precision"]["weights"]
    return Setup(
        config=config,
        backend=backend,
        quantizer=instantiate(config["quantizer"]["implementation"]),
        method=method,
        checkpoint=checkpoint,
        tokenizer=tokenizer,
        placement=Placement(
            device=backend.device,
            weights=getattr(torch, weights),
            compute=getattr(torch, config["precision"]["compute"]),
            cache=cache,
        ),
        data=prepare(config, tokenizer),
    )


def measure_reference(setup: Setup, events: EventLog) -> Reference:
    """Load the original in float32, score it, and keep no more of it than its logits."""
    placement = replace(setup.placement, weights=torch.float32)
    original = from_pretrained(setup.checkpoint, placement).to(setup.backend.device)
    events.write(evaluate(setup, original, "before"))
    probe = pad(setup.data.held_out[:PROBE_ROWS], setup.tokenizer, setup.backend.device)
    return Reference(describe(original), probe, scoring.logits(original, probe))


def attach(setup: Setup, model: PreTrainedModel, base: Base) -> nn.Module:
    """Attach the method, with the conventions that its quantizer's users rely on."""
    checkpointing = bool(setup.config["train"]["gradient_checkpointing"])
    if checkpointing:
        model.config.use_cache = False
    return setup.method.attach(model, base, setup.quantizer.prepares_for_kbit, checkpointing)


def train(setup: Setup, model: nn.Module, base: Base, events: EventLog, output: Path) -> None:
    """Train `model` in place under all always-on meters."""
    snapshot = parameters.snapshot(model, setup.quantizer)
    meters = TrainingMeters(setup.config, setup.data.texts, setup.tokenizer, events)
    run_loop = LOOPS[setup.method.loop](model, describe_training(setup, output), events.write)
    with meters.watch(model, base):
        started = perf_counter()
        run_loop()
        setup.backend.synchronize()
        seconds = perf_counter() - started
    events.write(Throughput(meters.tokens, seconds))
    events.write(parameters.compare(snapshot, model, setup.quantizer))
    if setup.method.has_scale:
        events.write(scale.measure(model, base, setup.placement.weights))


def describe_training(setup: Setup, output: Path) -> Training:
    """Say what both loops need to know."""
    config = setup.config
    return Training(
        settings=config["train"],
        optimizer=config["optimizer"],
        scheduler=config["scheduler"]["name"],
        data=config["data"],
        rows=setup.data.rows,
        examples=setup.data.examples,
        tokenizer=setup.tokenizer,
        compute=config["precision"]["compute"],
        device=setup.backend.device,
        device_settings=setup.backend.trainer_settings(),
        output=output,
    )


def evaluate(setup: Setup, model: nn.Module, when: str) -> Evaluation:
    """Score held-out rows of the target dialect beside their exact floor."""
    data = setup.data
    loss, tokens = scoring.loss(model, data.held_out, setup.tokenizer, setup.backend.device)
    return Evaluation(when, loss, data.floor, tokens)


def reload(
    setup: Setup, reference: Reference, folder: Path, *, before: torch.Tensor, after: torch.Tensor
) -> Reload:
    """Load what was saved onto a fresh base and compare it with the model that was trained.

    Args:
        folder: where it was saved.
        before, after: logits of the quantized base and of the trained model on the probe.
    """
    fresh = setup.load(reference.base)
    again = scoring.logits(setup.method.load(fresh, reference.base, folder), reference.probe)
    return Reload(
        max_difference=float((again - after).abs().max()),
        changed_by_training=float((after - before).abs().max()),
        files=tuple(sorted(str(p.relative_to(folder)) for p in folder.rglob("*.*"))),
    )


def allocator_pass(setup: Setup, base: Base, output: Path) -> Memory:
    """Train a fresh model for a few steps and return the allocator's peak meanwhile."""
    gc.collect()
    short = {**setup.config["train"], "max_steps": MEMORY_STEPS}
    training = replace(describe_training(setup, output), settings=short)
    attached = attach(setup, setup.load(base), base)
    run_loop = LOOPS[setup.method.loop](attached, training, lambda _: None)
    peak = setup.backend.allocator_peak(run_loop)
    return Memory("allocator_peak", peak, setup.backend.allocator_method, training=False)
