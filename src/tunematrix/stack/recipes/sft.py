"""Supervised fine-tuning: load, attach, train, save and reload one cell, measuring all the way."""

from __future__ import annotations

import gc
from collections.abc import Mapping
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
from tunematrix.stack.backends.cpu import Cpu
from tunematrix.stack.engines import plain_loop, scoring, sft_trainer
from tunematrix.stack.engines.training import Training
from tunematrix.stack.meters import parameters, scale, storage
from tunematrix.stack.meters.session import TrainingMeters
from tunematrix.stack.methods.common import Base, Method, describe
from tunematrix.stack.quantizers.common import Placement, Quantizer, from_pretrained
from tunematrix.stack.recipes.data import Data, prepare
from tunematrix.stack.toyworld import models

PROBE_ROWS = 8
MEMORY_STEPS = 2


@dataclass(frozen=True)
class Parts:
    """One cell's configuration, made real."""

    config: Mapping[str, Any]
    backend: Cpu
    quantizer: Quantizer
    method: Method
    checkpoint: Path
    placement: Placement
    tokenizer: PreTrainedTokenizerBase
    data: Data


@dataclass(frozen=True)
class Reference:
    """The unquantized original: what it is, and its logits on the probe, (tokens, vocabulary)."""

    base: Base
    probe: scoring.Batch
    logits: torch.Tensor


def run(config: Mapping[str, Any], events: EventLog, output_dir: Path) -> None:
    """Run one cell; everything it learns goes to `events`, everything it makes to `output_dir`."""
    with events.phase("prepare"):
        parts = assemble(config, events)
    with events.phase("reference"):
        reference = measure_reference(parts, events)
    with events.phase("load"):
        model = parts.quantizer.load(
            parts.checkpoint, list(reference.base.linears), parts.placement
        )
        events.write(storage.measure(model, reference.base, parts.quantizer))
        before = scoring.logits(model, reference.probe, gradient=True)
        error = (before - reference.logits).norm() / reference.logits.norm()
        events.write(LogitError(float(error)))
    with events.phase("attach"):
        attached = attach(parts, model, reference.base)
        events.write(parameters.trainable(attached, parts.method.must_train(reference.base)))
    with events.phase("train"):
        train(parts, attached, reference.base, events, output_dir / "trainer")
    with events.phase("evaluate"):
        evaluate(parts, attached, events, "after")
        after = scoring.logits(attached, reference.probe)
    with events.phase("save"):
        parts.method.save(attached, output_dir / "model")
    del model, attached
    with events.phase("reload"):
        reload(parts, reference, (before, after), events, output_dir / "model")
    if config["meters"]["allocator"]:
        with events.phase("memory"):
            events.write(allocator_pass(parts, reference.base, output_dir / "memory"))


def assemble(config: Mapping[str, Any], events: EventLog) -> Parts:
    """Instantiate the cell's parts from their `_target_`s and draw its data."""
    disable_datasets_bars()
    disable_transformers_bars()
    backend: Cpu = instantiate(config["backend"]["implementation"])
    settings = config["train"]
    determinants = backend.begin(int(settings["seed"]), int(settings["threads"]))
    events.write(Determinants(determinants))
    method: Method = instantiate(config["method"]["implementation"])
    cache = Path(config["cache_dir"])
    checkpoint = models.resolve(config["model"]["path"], cache)
    tokenizer = AutoTokenizer.from_pretrained(
        checkpoint, local_files_only=True, trust_remote_code=False
    )
    # Trained weights stay in full precision and autocast lowers the arithmetic.
    weights = "float32" if method.trains_base else config["precision"]["weights"]
    return Parts(
        config=config,
        backend=backend,
        quantizer=instantiate(config["quantizer"]["implementation"]),
        method=method,
        checkpoint=checkpoint,
        placement=Placement(
            device=backend.device,
            weights=getattr(torch, weights),
            compute=getattr(torch, config["precision"]["compute"]),
            cache=cache,
        ),
        tokenizer=tokenizer,
        data=prepare(config, tokenizer),
    )


def measure_reference(parts: Parts, events: EventLog) -> Reference:
    """Load the original in float32, score it, and keep no more of it than its logits."""
    original = from_pretrained(
        parts.checkpoint, replace(parts.placement, weights=torch.float32)
    ).to(parts.backend.device)
    evaluate(parts, original, events, "before")
    probe = scoring.pad(
        parts.data.held_out[:PROBE_ROWS], _pad_id(parts.tokenizer), parts.backend.device
    )
    return Reference(describe(original), probe, scoring.logits(original, probe))


def attach(parts: Parts, model: PreTrainedModel, base: Base) -> nn.Module:
    """Attach the method, with the conventions that its quantizer's users rely on."""
    checkpointing = bool(parts.config["train"]["gradient_checkpointing"])
    kbit = parts.quantizer.prepares_for_kbit
    if checkpointing:
        model.config.use_cache = False
    if checkpointing and parts.method.trainer == "plain":
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return parts.method.attach(model, base, kbit, checkpointing)


def train(parts: Parts, model: nn.Module, base: Base, events: EventLog, output: Path) -> None:
    """Train `model` in place under all always-on meters."""
    training = describe_training(parts, output)
    snapshot = parameters.snapshot(model, parts.quantizer)
    meters = TrainingMeters(parts.config, parts.data.texts, parts.tokenizer, events)
    if parts.method.trainer == "sft":
        trainer = sft_trainer.build(model, training, events.write)
        with meters.watch(model, base):
            started = perf_counter()
            trainer.train()
            seconds = perf_counter() - started
    else:
        with meters.watch(model, base):
            started = perf_counter()
            plain_loop.run(model, training, events.write)
            seconds = perf_counter() - started
    parts.backend.synchronize()
    events.write(Throughput(meters.tokens, seconds))
    events.write(parameters.compare(snapshot, model, parts.quantizer))
    if parts.method.scale is not None:
        events.write(scale.measure(model, _adapted(model, base), parts.placement.weights))


def describe_training(parts: Parts, output: Path) -> Training:
    """Say what both loops need to know."""
    config = parts.config
    return Training(
        settings=config["train"],
        optimizer=config["optimizer"],
        scheduler=config["scheduler"]["name"],
        data=config["data"],
        rows=parts.data.rows,
        examples=parts.data.examples,
        tokenizer=parts.tokenizer,
        compute=config["precision"]["compute"],
        device=parts.backend.device,
        device_settings=parts.backend.trainer_settings(),
        output=output,
    )


def evaluate(parts: Parts, model: nn.Module, events: EventLog, when: str) -> None:
    """Score held-out rows of the target dialect beside their exact floor."""
    loss, tokens = scoring.loss(
        model, parts.data.held_out, _pad_id(parts.tokenizer), parts.backend.device
    )
    events.write(Evaluation(when, loss, parts.data.floor, tokens))


def reload(
    parts: Parts,
    reference: Reference,
    logits: tuple[torch.Tensor, torch.Tensor],
    events: EventLog,
    folder: Path,
) -> None:
    """Load what was saved onto a fresh base and compare outputs with the trained model's."""
    before, after = logits
    linears = list(reference.base.linears)
    fresh = parts.quantizer.load(parts.checkpoint, linears, parts.placement)
    again = scoring.logits(parts.method.load(fresh, reference.base, folder), reference.probe)
    events.write(
        Reload(
            max_difference=float((again - after).abs().max()),
            changed_by_training=float((after - before).abs().max()),
            files=tuple(sorted(str(p.relative_to(folder)) for p in folder.rglob("*.*"))),
        )
    )


def allocator_pass(parts: Parts, base: Base, output: Path) -> Memory:
    """Train a fresh model for a few steps and return the allocator's peak meanwhile."""
    gc.collect()
    short = {**parts.config["train"], "max_steps": MEMORY_STEPS}
    training = replace(describe_training(parts, output), settings=short)
    model = parts.quantizer.load(parts.checkpoint, list(base.linears), parts.placement)
    attached = attach(parts, model, base)
    if parts.method.trainer == "sft":
        run_training = sft_trainer.build(attached, training, lambda _: None).train
        peak = parts.backend.allocator_peak(run_training)
    else:
        peak = parts.backend.allocator_peak(
            lambda: plain_loop.run(attached, training, lambda _: None)
        )
    return Memory("allocator_peak", peak, parts.backend.allocator_method, training=False)


def _adapted(model: nn.Module, base: Base) -> list[str]:
    """Name the modules of the attached model that carry an adapter."""
    suffixes = tuple(base.linears)
    return [
        name
        for name, layer in model.named_modules()
        if name.endswith(suffixes) and hasattr(layer, "base_layer")
    ]


def _pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    pad = tokenizer.pad_token_id
    if not isinstance(pad, int):
        message = "the checkpoint's tokenizer has no pad token; set one in tokenizer_config.json"
        raise ValueError(message)
    return pad
