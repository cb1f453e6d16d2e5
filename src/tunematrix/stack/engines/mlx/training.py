"""mlx-lm's own trainer, as `mlx_lm.lora` runs it: a model, rows and settings go in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.optimizers import Optimizer
from mlx_lm.tuner import trainer
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.datasets import CacheDataset, create_dataset
from transformers import PreTrainedTokenizerBase

from tunematrix.configuration.settings import TrainSettings
from tunematrix.evidence.events import LoggedStep
from tunematrix.stack.engines.examples import Data
from tunematrix.stack.mlx_releases import no_evaluation

Feed = Callable[..., Iterator[tuple[mx.array, mx.array]]]
"""Takes the place of mlx-lm's `iterate_batches`."""
WriteLine = Callable[[LoggedStep], None]
"""Takes each line that the trainer logs."""


@dataclass(frozen=True)
class MlxTraining:
    """One training run.

    Attributes:
        settings: the cell's `train` section.
        data: the rows, whatever their form; packing: whether they are to be packed.
        tokenizer: the checkpoint's.
        output: folder for the trainer's own files.
    """

    settings: TrainSettings
    data: Data
    packing: bool
    tokenizer: PreTrainedTokenizerBase
    output: Path

    def run(self, model: nn.Module, optimizer: Optimizer, feed: Feed, write: WriteLine) -> None:
        """Train `model` in place.

        Raises:
            ValueError: clipping, packing, resuming, evaluating or another padding is asked for,
                which mlx-lm's trainer hasn't got, or not without an effect on training.
        """
        self._refuse()
        self._refuse_stretches()
        self.output.mkdir(parents=True, exist_ok=True)
        trainer.train(
            model=model,
            optimizer=optimizer,
            train_dataset=self._dataset(),
            args=self._arguments(),
            loss=trainer.default_loss,
            iterate_batches=feed,
            training_callback=MlxLogReader(write, self.settings.accumulation),
            **no_evaluation(trainer.train),
        )

    def _refuse(self) -> None:
        if self.packing:
            message = "mlx-lm's trainer pads its rows and can't pack them"
            raise ValueError(message)
        if limit := self.settings.max_grad_norm:
            message = f"max_grad_norm={limit} can't be had: mlx-lm's trainer clips nothing; set 0"
            raise ValueError(message)
        if (padding := self.settings.padding) != "pad":
            message = f"padding={padding} can't be had: mlx-lm always pads with token 0; set pad"
            raise ValueError(message)

        if self.settings.load_best:
            message = "train.load_best can't be had: mlx-lm's trainer ends with its last weights"
            raise ValueError(message)
        if self.settings.is_compiled:
            message = (
                f"train.compile={self.settings.compile} can't be had: it is torch.compile's, and "
                "mlx-lm's trainer compiles each step by itself"
            )
            raise ValueError(message)
        if self.settings.streaming:
            message = "train.streaming can't be had: mlx-lm's trainer sorts all rows by length"
            raise ValueError(message)
        if smoothing := self.settings.label_smoothing:
            message = (
                f"train.label_smoothing={smoothing:g} can't be had: mlx-lm's loss is the plain "
                "cross-entropy; set 0"
            )
            raise ValueError(message)

    def _refuse_stretches(self) -> None:
        """Refuse what would part training into stretches."""
        if step := self.settings.interrupt_at:
            message = (
                f"train.interrupt_at={step} can't be had: mlx-lm saves no optimizer state "
                "(https://github.com/ml-explore/mlx-lm/pull/97)"
            )
            raise ValueError(message)

        if every := self.settings.eval_steps:
            message = (
                f"train.eval_steps={every} can't be had: mlx-lm's trainer draws the order of its "
                "evaluation from the generator that orders training"
            )
            raise ValueError(message)

    def _dataset(self) -> CacheDataset:
        whole = self.settings.loss_on == "all"
        rows = [dict(row) for row in self.data.rows]
        return CacheDataset(
            create_dataset(rows, self.tokenizer, SimpleNamespace(mask_prompt=not whole))
        )

    def _arguments(self) -> trainer.TrainingArgs:
        accumulation = self.settings.accumulation
        iterations = self.settings.max_steps * accumulation
        return trainer.TrainingArgs(
            batch_size=self.settings.batch_size,
            iters=iterations,
            val_batches=0,
            steps_per_report=self.settings.logging_steps * accumulation,
            steps_per_save=iterations + 1,  # at the end alone
            max_seq_length=self.settings.max_length,
            adapter_file=str(self.output / "adapters.safetensors"),
            grad_checkpoint=self.settings.gradient_checkpointing,
            grad_accumulation_steps=accumulation,
        )


class MlxLogReader(TrainingCallback):
    """Passes on what the trainer logs, which counts micro-batches and not steps."""

    def __init__(self, write: WriteLine, accumulation: int) -> None:
        self.write = write
        self.accumulation = accumulation

    def on_train_loss_report(self, train_info: dict[str, Any]) -> None:
        """Pass a line on."""
        step = int(train_info["iteration"]) // self.accumulation
        self.write(LoggedStep(step, float(train_info["train_loss"])))
