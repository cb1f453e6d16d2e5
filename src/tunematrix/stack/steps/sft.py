"""The step `sft`: a user's model is fine-tuned on a file of texts."""

from __future__ import annotations

from datasets import Dataset
from torch import nn
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from tunematrix.configuration.steps import SftStep
from tunematrix.stack import releases
from tunematrix.stack.engines.torch import scoring
from tunematrix.stack.steps import data, lessons, opening, training
from tunematrix.stack.steps.job import Line, StepJob


def run(settings: SftStep, job: StepJob) -> None:
    """Fine-tune a model; the adapter, or the model, is saved with its tokenizer.

    Raises:
        WrongSetting: an entry of the config, or the file that it names, can't be used.
        StepFailed: training came to nothing. MachineProblem: the disk is full.
    """
    line = Line()
    with job.said(line):
        source = lessons.base_of(settings, job)
        rows, asked = data.read(settings.dataset, {"text": settings.dataset.text_field})
        tokenizer = opening.tokenizer_of(source)
        going_on = training.look_ahead(settings.training, job)
        opening.begin(source, job, lessons.will_do(settings, job, len(rows)) + going_on)
        line.text = (
            "nothing was trained or written"
            if job.dry_run
            else _train(settings, job, source, tokenizer, rows, asked)
        )


def _train(
    settings: SftStep,
    job: StepJob,
    source: opening.ModelSource,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    asked: Dataset,
) -> str:
    options = settings.training
    examples = lessons.examples(tokenizer, list(asked["text"]), options.max_seq_length)

    def start() -> tuple[nn.Module, opening.ModelSource]:
        base = opening.load_base(source, job.config, options.dtype)
        if options.method == "full":
            return base.requires_grad_(True), source
        return training.attach(base, opening.layers_of(source), options, job), source

    def score(model: nn.Module) -> float:
        return scoring.loss(model, examples, tokenizer, job.device)[0]

    def trainer(model: nn.Module, course: training.Course) -> SFTTrainer:
        wanted = {**training.arguments(options, job), "packing": False}
        return SFTTrainer(
            model=model,
            args=SFTConfig(**releases.settings_of(SFTConfig, wanted)),
            train_dataset=rows,
            processing_class=tokenizer,
            callbacks=[course],
        )

    lesson = training.Lesson("loss", start, score, trainer)
    trained = training.teach(lesson, tokenizer, options, job)
    return lessons.has_done(trained, len(asked))
