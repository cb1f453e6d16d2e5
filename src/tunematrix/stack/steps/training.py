"""What fine-tuning and aligning share: a trainer's arguments, its course, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainerCallback
from transformers.trainer_callback import PrinterCallback

from tunematrix.configuration.steps import StepTraining
from tunematrix.evidence.events import StepSaved, StepTrained
from tunematrix.stack import releases
from tunematrix.stack.backends.common import TorchBackend
from tunematrix.stack.engines.common import Base
from tunematrix.stack.engines.torch.methods.lora import TorchLora
from tunematrix.stack.quantizers.common import TorchQuantizer
from tunematrix.stack.steps import checkpoints, lessons, outcome
from tunematrix.stack.steps.checkpoint_files import step_of
from tunematrix.stack.steps.job import StepJob
from tunematrix.stack.steps.opening import ModelSource


@dataclass
class Course(TrainerCallback):
    """Passes on every step that a trainer logs.

    Attributes:
        losses: as logged, so far.
        begun: sums over the bits of what is trained, when the first step begins.
    """

    job: StepJob
    losses: list[float] = field(default_factory=list)
    begun: dict[str, int] = field(default_factory=dict)

    def on_train_begin(self, args: Any, state: Any, control: Any, **its: Any) -> None:
        """Give the first step its rate, and remember what training goes on from.

        Where training goes on for longer than it was to, Trainer makes the first step with the rate
        that the shorter schedule had left in the optimizer: 0.
        """
        self.begun = outcome.bits(its["model"])
        schedule = its["lr_scheduler"]
        schedule = getattr(schedule, "scheduler", schedule)
        if isinstance(schedule, LambdaLR):
            rates = zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
            for group, (rate, share) in zip(schedule.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * share(schedule.last_epoch)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Pass a step's line on; the summary has no `loss`."""
        if not logs or "loss" not in logs:
            return
        loss, rate = float(logs["loss"]), float(logs["learning_rate"])
        self.losses.append(loss)
        lessons.logged(self.job, state.global_step, state.max_steps, loss, rate)


def arguments(settings: StepTraining, job: StepJob) -> dict[str, Any]:
    """Return what the trainers of TRL are told alike."""
    backend: TorchBackend = instantiate(job.config.backend.implementation, _convert_="all")
    limit = settings.max_grad_norm
    return dict(
        output_dir=str(job.output_dir),
        max_steps=settings.max_steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=_scheduler(settings),
        warmup_steps=settings.warmup_steps,
        max_grad_norm=releases.clipping_limit(
            job.config.backend.max_grad_norm if limit is None else limit
        ),
        weight_decay=settings.weight_decay,
        max_length=settings.max_seq_length,
        gradient_checkpointing=False,
        bf16=False,
        fp16=False,
        seed=settings.seed,
        logging_steps=1,
        # Trainer's default replaces a nan by the last good loss before it logs.
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=settings.save_steps or settings.max_steps,
        report_to=[],
        disable_tqdm=True,
        **backend.trainer_settings(),
    )


def _scheduler(settings: StepTraining) -> str:
    kind = settings.lr_scheduler_type
    # transformers' "constant" knows no warm-up.
    return "constant_with_warmup" if kind == "constant" and settings.warmup_steps else kind


def look_ahead(settings: StepTraining, job: StepJob) -> str:
    """Find what would be wrong before a model is loaded: the checkpoint, and the warm-up.

    Returns:
        How the sentence on what is about to be done ends; empty where training begins anew.

    Raises:
        WrongSetting: there is no such checkpoint, or none that is whole.
    """
    lessons.warn_of_warmup(settings, job)
    if job.resume:
        return f", from {checkpoints.find(job.resume, job.output_dir, lambda _: None).name} on"
    if left := checkpoints.newest(job.output_dir, lambda _: None):
        job.warn(
            f"{job.output_dir} has checkpoints of an earlier training, up to {left.name}, which "
            "`--resume latest` would take if this one is interrupted; write to another folder, or "
            "remove them"
        )
    return ""


def attach(model: PreTrainedModel, layers: Base, settings: StepTraining, job: StepJob) -> nn.Module:
    """Put a new adapter on every linear layer of a base model's decoder."""
    quantizer: TorchQuantizer = instantiate(job.config.quantizer.implementation, _convert_="all")
    lora = settings.lora
    method = TorchLora(lora.rank, lora.alpha, lora.dropout, False, False, [])
    return method.attach(model, layers, quantizer.prepares_for_kbit, False)


def train(trainer: Trainer, job: StepJob, checkpoint: Path | None) -> None:
    """Train to the end, from the beginning or from a checkpoint.

    Raises:
        MachineProblem: the disk is full. StepFailed: the loss isn't finite any more.
    """
    trainer.remove_callback(PrinterCallback)
    with lessons.saving(job.output_dir):
        if checkpoint is None:
            trainer.train()
        elif step_of(checkpoint) >= trainer.args.max_steps:
            # Trainer would take one step more than there are.
            trainer._load_from_checkpoint(str(checkpoint))
        else:
            trainer.train(resume_from_checkpoint=str(checkpoint))


@dataclass(frozen=True)
class Lesson:
    """What one way of training adds to what all of them do.

    Attributes:
        measure: what `score` returns, as `StepTrained` names it.
        start: loads the model that is trained; also returns the base that it stands on.
        score: asks a model about rows that stay the same.
        trainer: makes the trainer of a model, which passes on its course.
        finish: takes off what the trainer added to the model.
    """

    measure: str
    start: Callable[[], tuple[nn.Module, ModelSource]]
    score: Callable[[nn.Module], float]
    trainer: Callable[[nn.Module, Course], Trainer]
    finish: Callable[[nn.Module], None] = lambda model: None


def teach(
    lesson: Lesson, tokenizer: PreTrainedTokenizerBase, settings: StepTraining, job: StepJob
) -> StepTrained:
    """Train a model, save it, load what was saved, and write down what that came to.

    Raises:
        StepFailed: training came to nothing. MachineProblem: the disk is full.
    """
    trained, source = _trained(lesson, tokenizer, settings, job)
    job.events.write(trained)
    lessons.require_change(trained)
    # The trained model is gone by now, so that there is never more than one in memory.
    again = lesson.score(outcome.load_again(source, settings.dtype, job))
    job.events.write(StepSaved(job.name, again))
    return trained


def _trained(
    lesson: Lesson, tokenizer: PreTrainedTokenizerBase, settings: StepTraining, job: StepJob
) -> tuple[StepTrained, ModelSource]:
    model, source = lesson.start()
    sums, before = outcome.bits(model), lesson.score(model)
    checkpoint = checkpoints.chosen(job, model, settings.max_steps)
    course = Course(job)
    trainer = lesson.trainer(model, course)
    train(trainer, job, checkpoint)
    lesson.finish(model)
    begun = {name: course.begun.get(name, value) for name, value in sums.items()}
    with lessons.saving(job.output_dir):
        trainer.model.save_pretrained(str(job.output_dir))
        tokenizer.save_pretrained(str(job.output_dir))
    trained = StepTrained(
        name=job.name,
        steps=settings.max_steps,
        resumed_at=settings.max_steps - len(course.losses),
        moved=outcome.moved(begun, model),
        tensors=len(sums),
        measure=lesson.measure,
        before=before,
        after=lesson.score(model),
        logged=tuple(course.losses) or checkpoints.logged_losses(checkpoint),
    )
    return trained, source
