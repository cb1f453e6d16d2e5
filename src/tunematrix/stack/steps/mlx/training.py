"""What mlx-lm's trainer is told by a training step, and what its step says no to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.optimizers import Optimizer
from mlx.utils import tree_flatten
from mlx_lm.tuner import trainer
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.datasets import CacheDataset, TextDataset
from transformers import PreTrainedTokenizerBase

from tunematrix.configuration.steps import StepTraining
from tunematrix.errors import WrongSetting
from tunematrix.stack.engines.mlx import optimizers
from tunematrix.stack.steps import lessons
from tunematrix.stack.steps.job import StepJob

_WORDS = {mx.float32: mx.uint32, mx.bfloat16: mx.uint16, mx.float16: mx.uint16}


def check(settings: StepTraining, job: StepJob, rows: int, section: str) -> None:
    """See that mlx-lm's trainer can do what is asked, and warn of what it does otherwise.

    Args:
        rows: to train on. section: of the step's config that holds `settings`.

    Raises:
        WrongSetting: it can't.
    """
    _check_wishes(settings, job, section)
    if rows < settings.batch_size:
        text = f"{settings.batch_size} rows in a micro-batch, and there are {rows}"
        raise WrongSetting((section, "batch_size"), f"{text}: mlx-lm fills each; lower it")
    if left := rows % settings.batch_size:
        job.warn(
            f"mlx-lm trains on whole micro-batches of {settings.batch_size} alone: the longest "
            f"{lessons.counted(left, 'row')} of {rows} will be left out"
        )
    if settings.gradient_accumulation_steps > 1:
        job.warn(
            "mlx-lm gives every micro-batch of a step the same weight, however many tokens it has"
        )
    if settings.threads:
        job.warn(f"threads={settings.threads} isn't heeded: MLX takes no number of threads")
    lessons.warn_of_warmup(settings, job)


def _check_wishes(settings: StepTraining, job: StepJob, section: str) -> None:
    if job.resume:
        text = "mlx-lm saves no state of the optimizer, so no training can go on from what it saved"
        raise WrongSetting(("resume",), f"{text}; begin without it")
    if limit := settings.max_grad_norm:
        text = f"{limit:g} can't be had: mlx-lm's trainer clips nothing; set 0, or leave it out"
        raise WrongSetting((section, "max_grad_norm"), text)
    if every := settings.save_steps:
        text = f"{every} can't be had: mlx-lm saves no checkpoint that training can go on from"
        raise WrongSetting((section, "save_steps"), f"{text}; set 0: it saves at the end")


@dataclass
class MlxCourse(TrainingCallback):
    """Passes on every step that mlx-lm's trainer logs, which counts micro-batches.

    Attributes:
        losses: as logged, so far.
    """

    job: StepJob
    settings: StepTraining
    losses: list[float] = field(default_factory=list)

    def on_train_loss_report(self, train_info: dict[str, Any]) -> None:
        """Pass a step's line on."""
        step = int(train_info["iteration"]) // self.settings.gradient_accumulation_steps
        loss, rate = float(train_info["train_loss"]), float(train_info["learning_rate"])
        self.losses.append(loss)
        lessons.logged(self.job, step, self.settings.max_steps, loss, rate)


def train(
    model: nn.Module,
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    settings: StepTraining,
    job: StepJob,
) -> tuple[float, ...]:
    """Train a model in place; return the loss of each step, as logged.

    Raises:
        StepFailed: the loss isn't finite any more. MachineProblem: the disk is full.
    """
    course = MlxCourse(job, settings)
    rows = [{"text": text} for text in texts]
    # It saves tensors at its end, whatever it is told; what they belong to, only we know.
    with (
        saving(job),
        TemporaryDirectory(prefix=".mlx-lm-", dir=job.output_dir) as aside,
    ):
        trainer.train(
            model=model,
            optimizer=_optimizer(settings, job),
            train_dataset=CacheDataset(TextDataset(rows, tokenizer)),
            args=_arguments(settings, Path(aside)),
            loss=trainer.default_loss,
            iterate_batches=_exact_batches,
            training_callback=course,
        )
    return tuple(course.losses)


def _optimizer(settings: StepTraining, job: StepJob) -> Optimizer:
    rate = optimizers.rate_of(
        settings.lr_scheduler_type,
        settings.learning_rate,
        settings.max_steps,
        settings.warmup_steps,
    )
    return optimizers.adamw(rate, settings.weight_decay, job.config.optimizer)


def _arguments(settings: StepTraining, aside: Path) -> trainer.TrainingArgs:
    accumulation = settings.gradient_accumulation_steps
    iterations = settings.max_steps * accumulation
    return trainer.TrainingArgs(
        batch_size=settings.batch_size,
        iters=iterations,
        steps_per_report=accumulation,
        steps_per_save=iterations + 1,  # at the end alone
        max_seq_length=settings.max_seq_length,
        adapter_file=str(aside / "adapters.safetensors"),
        grad_accumulation_steps=accumulation,
    )


def _exact_batches(*args: Any, **kwargs: Any) -> Iterator[tuple[mx.array, mx.array]]:
    """Yield the batches of mlx-lm's own; takes its arguments, and its place."""
    for batch, lengths in trainer.iterate_batches(*args, **kwargs):
        # Its own lengths make its loss count the padding after each text.
        yield batch, lengths - mx.array([0, 1])


def saving(job: StepJob) -> AbstractContextManager[None]:
    """Tell a full disk from other reasons; nothing that mlx-lm has saved can be gone on from."""
    return lessons.saving(job.output_dir, "make room, then begin again")


def bits(parameters: Mapping[str, Any]) -> dict[str, int]:
    """Return for each tensor of a tree a sum over its bits, which changes with almost any."""
    return {
        name: int(parameter.view(_WORDS.get(parameter.dtype, parameter.dtype)).sum().item())
        for name, parameter in tree_flatten(parameters)
    }
