"""Training through TRL's SFTTrainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from datasets import Dataset
from torch import nn
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig, SFTTrainer

from tunematrix.evidence.events import LoggedEvaluation, LoggedStep
from tunematrix.stack import releases
from tunematrix.stack.engines.torch import compiling, interruption
from tunematrix.stack.engines.torch.training import TorchTraining, WriteLine

NEXT_RATE = releases.logs_next_rate(SFTTrainer)
"""Whether this release logs the next step's rate; read before anything can be patched."""


FLAT: Mapping[str, Any] = {"padding_free": True, "max_length": None}
"""What TRL is told for batches without padding, whose rows it cuts to no length."""


class TrainerLogReader(TrainerCallback):
    """Passes on what Trainer logs."""

    def __init__(self, write: WriteLine) -> None:
        self.write = write

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Pass a step's line on, and an evaluation's; the summary has no `loss`."""
        if logs and "eval_loss" in logs:
            self.write(LoggedEvaluation(state.global_step, float(logs["eval_loss"])))
        if logs and "loss" in logs:
            norm, rate = (
                None if logs.get(name) is None else float(logs[name])
                for name in ("grad_norm", "learning_rate")
            )
            loss = float(logs["loss"])
            self.write(LoggedStep(state.global_step, loss, norm, rate, NEXT_RATE))


def prepare(model: nn.Module, training: TorchTraining, write: WriteLine) -> Callable[[], object]:
    """Return what trains `model` in place; the data is tokenized and packed by then.

    Raises:
        ValueError: training is to be interrupted where there is nothing to interrupt, or a model
            compiled whose errors nobody could tell, or rows without padding evaluated, cut or
            packed.
    """
    compiling.refuse(model, training)
    _refuse(training)
    step = interruption.step_of(training.settings)
    make = partial(_trainer, model, training, write)
    if step:
        return interruption.prepare(model, make, step, training.idle)
    train: Callable[[], object] = make().train
    return train


def _refuse(training: TorchTraining) -> None:
    if not training.settings.is_flat:
        return
    if training.data.packing:
        message = "train.padding=free can't be had with packed rows, which have no padding anyhow"
        raise ValueError(message)
    if training.settings.too_long == "cut":
        message = "train.too_long=cut can't be had with train.padding=free: TRL cuts nothing then"
        raise ValueError(message)
    if every := training.settings.eval_steps:
        message = (
            f"train.eval_steps={every} can't be had with train.padding=free: Trainer weighs the "
            "batches of an evaluation by their rows, which are then one each"
        )
        raise ValueError(message)


def _trainer(model: nn.Module, training: TorchTraining, write: WriteLine) -> SFTTrainer:
    rows = _dataset(training.rows)
    with compiling.undone():
        trainer = SFTTrainer(
            model=model,
            args=_config(training),
            train_dataset=rows.to_iterable_dataset() if training.settings.streaming else rows,
            eval_dataset=_dataset(training.held_out) if training.settings.eval_steps else None,
            callbacks=[TrainerLogReader(write)],
            **releases.arguments_of(SFTTrainer, training.tokenizer, training.optimizer_class()),
        )
    releases.take_optimizer(trainer, training.optimizer_class())
    releases.tell_labels(trainer, model)
    trainer.remove_callback(PrinterCallback)
    return trainer


def _dataset(rows: Sequence[Mapping[str, Any]]) -> Dataset:
    return Dataset.from_list([dict(row) for row in rows])


def _config(training: TorchTraining) -> SFTConfig:
    loss_on = training.settings.loss_on
    every = training.settings.eval_steps
    wanted = {
        **arguments(training),
        "eval_strategy": "steps" if every else "no",
        "eval_steps": every or None,
        **(_best(every) if training.settings.load_best else {}),
        "packing": training.data.packing,
        **(FLAT if training.settings.is_flat else {}),
        "label_smoothing_factor": training.settings.label_smoothing,
        "assistant_only_loss": loss_on == "assistant",
        "completion_only_loss": loss_on == "completion" or None,
    }
    return SFTConfig(**releases.settings_of(SFTConfig, wanted))


def _best(every: int) -> dict[str, Any]:
    """Return what makes a trainer end with the best of its checkpoints, one an evaluation."""
    return {"load_best_model_at_end": True, "save_strategy": "steps", "save_steps": every}


def arguments(training: TorchTraining) -> dict[str, Any]:
    """Return what every trainer of TRL is told alike."""
    settings = training.settings
    return dict(
        output_dir=str(training.output),
        max_steps=settings.max_steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=training.scheduler_name(),
        warmup_steps=settings.warmup_steps,
        max_grad_norm=releases.clipping_limit(settings.max_grad_norm),
        weight_decay=settings.weight_decay,
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs=(
            training.checkpointing_kwargs() if settings.gradient_checkpointing else None
        ),
        max_length=settings.max_length,
        bf16=training.compute == "bfloat16",
        fp16=training.compute == "float16",
        seed=settings.seed,
        logging_steps=settings.logging_steps,
        # Trainer's default replaces a nan by the last good loss before it logs.
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **compiling.arguments(settings),
        **training.device_settings,
    )
