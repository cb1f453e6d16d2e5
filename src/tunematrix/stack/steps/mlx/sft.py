"""The step `sft` on MLX: mlx-lm fine-tunes a user's model on a file of texts."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mlx.core as mx
from mlx import nn
from mlx_lm import utils as mlx_lm_utils
from transformers import PreTrainedTokenizerBase

from tunematrix.configuration.steps import SftStep, SftTraining
from tunematrix.evidence.events import StepSaved, StepTrained
from tunematrix.stack.engines.examples import Example
from tunematrix.stack.engines.mlx import methods, scoring
from tunematrix.stack.steps import data, lessons, sources
from tunematrix.stack.steps.job import Line, StepJob
from tunematrix.stack.steps.mlx import opening, training


@dataclass(frozen=True)
class MlxLesson:
    """What is trained, on what, and how.

    Attributes:
        texts: to train on; examples: that stay the same, and that the model is asked about.
    """

    settings: SftTraining
    source: sources.ModelSource
    tokenizer: PreTrainedTokenizerBase
    texts: Sequence[str]
    examples: Sequence[Example]

    @property
    def method(self) -> methods.MlxMethod:
        """What trains, and is saved."""
        if self.settings.method == "full":
            return methods.MlxFull()
        lora = self.settings.lora
        return methods.MlxLora(lora.rank, lora.alpha, lora.dropout, False, False, [])

    def score(self, model: nn.Module) -> float:
        """Ask a model about the examples (nats per token)."""
        return scoring.loss(model, self.examples)[0]


def run(settings: SftStep, job: StepJob) -> None:
    """Fine-tune a model; the adapter is saved as mlx-lm saves it, or the model, with its tokenizer.

    Raises:
        WrongSetting: an entry of the config, or the file that it names, can't be used.
        StepFailed: training came to nothing. MachineProblem: the disk is full.
    """
    line = Line()
    with job.said(line):
        source = lessons.base_of(settings, job, opening.READS)
        rows, asked = data.listed(settings.dataset, {"text": settings.dataset.text_field})
        tokenizer = sources.tokenizer_of(source)
        training.check(settings.training, job, len(rows), settings.section)
        sources.begin(source, job, lessons.will_do(settings, job, len(rows)))
        longest = settings.training.max_seq_length
        examples = lessons.examples(tokenizer, [row["text"] for row in asked], longest)
        texts = [row["text"] for row in rows]
        lesson = MlxLesson(settings.training, source, tokenizer, texts, examples)
        line.text = "nothing was trained or written" if job.dry_run else _teach(lesson, job)


def _teach(lesson: MlxLesson, job: StepJob) -> str:
    trained, kept = _trained(lesson, job)
    job.events.write(trained)
    lessons.require_change(trained)
    # The trained model is gone by now, so that there is never more than one in memory.
    gc.collect()
    mx.clear_cache()
    again = _loaded_again(lesson, job)
    found = training.bits(again.parameters())
    differing = sum(found.get(name) != value for name, value in kept.items())
    job.events.write(StepSaved(job.name, lesson.score(again), differing))
    return lessons.has_done(trained, len(lesson.examples))


def _trained(lesson: MlxLesson, job: StepJob) -> tuple[StepTrained, Mapping[str, int]]:
    """Train and save; return what that came to, and sums over the bits of what was trained."""
    settings = lesson.settings
    model, config = opening.load_base(lesson.source, job.config, settings.dtype)
    # Loading drew weights that were thrown away; what follows is to depend on the seed alone.
    mx.random.seed(settings.seed)
    lesson.method.attach(model)
    sums, before = training.bits(model.trainable_parameters()), lesson.score(model)
    logged = training.train(model, lesson.texts, lesson.tokenizer, settings, job)
    after = training.bits(model.trainable_parameters())
    with training.saving(job):
        if settings.method == "full":
            mlx_lm_utils.save(
                job.output_dir, lesson.source.base, model, lesson.tokenizer, config,
                donate_model=False,
            )  # fmt: skip
        else:
            methods.save(model, lesson.method, job.output_dir, lesson.source.base)
            lesson.tokenizer.save_pretrained(str(job.output_dir))
    trained = StepTrained(
        name=job.name,
        steps=settings.max_steps,
        resumed_at=0,
        moved=sum(after[name] != value for name, value in sums.items()),
        tensors=len(sums),
        measure="loss",
        before=before,
        after=lesson.score(model),
        logged=logged,
    )
    return trained, after


def _loaded_again(lesson: MlxLesson, job: StepJob) -> nn.Module:
    """Load what was saved, from files alone, as it was trained."""
    dtype = lesson.settings.dtype
    if lesson.settings.method == "full":
        whole = sources.ModelSource(job.output_dir, job.output_dir)
        return opening.load_as_trained(whole, job.config, dtype)
    own = sources.ModelSource(job.output_dir, lesson.source.base, job.output_dir)
    return opening.load_as_trained(own, job.config, dtype)
