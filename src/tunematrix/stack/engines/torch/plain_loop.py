"""A plain training loop: the reference that Trainer has to agree with."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice

import torch
from torch import nn
from transformers import PreTrainedModel, get_scheduler

from tunematrix.evidence.events import LoggedStep
from tunematrix.stack.engines.torch import compiling, ranks
from tunematrix.stack.engines.torch.meters.optimizer import UNDECAYED
from tunematrix.stack.engines.torch.padding import TorchBatch, pad
from tunematrix.stack.engines.torch.scoring import nats
from tunematrix.stack.engines.torch.shards import whole
from tunematrix.stack.engines.torch.training import TorchTraining, WriteLine


def prepare(
    model: PreTrainedModel, training: TorchTraining, write: WriteLine
) -> Callable[[], None]:
    """Return what trains `model` in place.

    The loss of a step is the mean over all counted tokens of all its micro-batches, those of
    other processes included.

    Raises:
        ValueError: the data is to be packed or streamed, or training interrupted or evaluated, or a
            model compiled that drops something or computes in half precision.
    """
    compiling.refuse(model, training)
    if training.data.packing or training.settings.is_flat:
        message = "the plain loop pads its rows, and can't put them into one"
        raise ValueError(message)
    if every := training.settings.eval_steps:
        message = f"train.eval_steps={every} can't be had: the plain loop evaluates nothing"
        raise ValueError(message)
    if training.settings.load_best:
        message = "train.load_best can't be had: the plain loop saves no checkpoints"
        raise ValueError(message)
    if training.settings.streaming:
        message = "train.streaming can't be had: the plain loop has all rows at hand"
        raise ValueError(message)
    if step := training.settings.interrupt_at:
        message = f"train.interrupt_at={step} can't be had: the plain loop saves no checkpoints"
        raise ValueError(message)
    if training.settings.gradient_checkpointing:
        model.gradient_checkpointing_enable(training.checkpointing_kwargs())
    return partial(_run, model, training, write)


def _run(model: PreTrainedModel, training: TorchTraining, write: WriteLine) -> None:
    settings = training.settings
    steps = settings.max_steps
    optimizer = _optimizer(model, training)
    schedule = get_scheduler(
        training.scheduler_name(),
        optimizer,
        num_warmup_steps=settings.warmup_steps,
        num_training_steps=steps,
    )
    batches = _batches(training)
    model.train()
    running = compiling.compiled(ranks.averaging(model), settings)
    for step in range(1, steps + 1):
        group = [next(batches) for _ in range(settings.accumulation)]
        loss = _accumulate(running, group, training)
        norm = _clip(model, settings.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % settings.logging_steps == 0:
            write(LoggedStep(step, loss, norm))


def _accumulate(model: nn.Module, group: Sequence[TorchBatch], training: TorchTraining) -> float:
    device = training.device
    tokens = ranks.total(sum(batch.counted for batch in group), device)
    compute = getattr(torch, training.compute)
    total = 0.0
    for batch in group:
        with torch.autocast(device, dtype=compute, enabled=compute != torch.float32):
            # The loss is ours; the labels go along for the meters to see.
            output = model(
                input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels
            )
        loss = nats(output.logits, batch, training.settings.label_smoothing)
        # Gradients are averaged over the processes, and their sum is wanted.
        (loss * ranks.count() / tokens).backward()
        total += float(loss.detach())
    return ranks.total(total, device) / tokens


def _clip(model: nn.Module, limit: float) -> float:
    trained = [p for p in model.parameters() if p.grad is not None]
    norm = nn.utils.clip_grad_norm_(trained, limit if limit > 0 else float("inf"))
    return float(whole(norm))


def _optimizer(model: nn.Module, training: TorchTraining) -> torch.optim.Optimizer:
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    decay = training.settings.weight_decay
    groups = [
        {"params": [p for n, p in named if not UNDECAYED.search(n)], "weight_decay": decay},
        {"params": [p for n, p in named if UNDECAYED.search(n)], "weight_decay": 0.0},
    ]
    kind, arguments = training.optimizer_class()
    optimizer: torch.optim.Optimizer = kind(groups, **arguments)
    return optimizer


def _batches(training: TorchTraining) -> Iterator[TorchBatch]:
    """Yield this process's share of all micro-batches."""
    return islice(_all_batches(training), ranks.number(), None, ranks.count())


def _all_batches(training: TorchTraining) -> Iterator[TorchBatch]:
    """Yield micro-batches for ever, each epoch in another order."""
    order = random.Random(training.settings.seed)
    size = training.settings.batch_size
    while True:
        epoch = list(training.examples)
        order.shuffle(epoch)
        for start in range(0, len(epoch) - size + 1, size):
            yield pad(epoch[start : start + size], training.tokenizer, training.device)
