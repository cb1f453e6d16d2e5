"""The step `sft`: a user's model is fine-tuned on a file of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from datasets import Dataset
from torch import nn
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from tunematrix.configuration.steps import SftStep
from tunematrix.errors import WrongSetting
from tunematrix.stack import releases
from tunematrix.stack.engines.examples import Example, tokenize_all
from tunematrix.stack.engines.torch import scoring
from tunematrix.stack.steps import data, opening, training
from tunematrix.stack.steps.job import Line, StepJob


def run(settings: SftStep, job: StepJob) -> None:
    """Fine-tune a model; the adapter, or the model, is saved with its tokenizer.

    Raises:
        WrongSetting: an entry of the config, or the file that it names, can't be used.
        StepFailed: training came to nothing. MachineProblem: the disk is full.
    """
    line = Line()
    with job.said(line):
        source = opening.find(settings.model.path, job.config)
        if source.adapter is not None:
            text = "is an adapter; sft begins with a model: merge it, or give its base's folder"
            raise WrongSetting(opening.ROUTE, f"{settings.model.path} {text}")
        opening.require_plain(source, job)
        method, quantizer = settings.training.method, job.config.quantizer.name
        _check_method(method, quantizer)
        rows, asked = data.read(settings.dataset, {"text": settings.dataset.text_field})
        tokenizer = opening.tokenizer_of(source)
        training.look_ahead(settings.training, job)
        over = "" if quantizer == "none" else f" over {quantizer}"
        steps = training.counted(settings.training.max_steps, "step")
        does = f"{method}{over} on {training.counted(len(rows), 'row')}, {steps}"
        opening.begin(source, job, does)
        line.text = (
            "nothing was trained or written"
            if job.dry_run
            else _train(settings, job, source, tokenizer, rows, asked)
        )


def _check_method(method: str, quantizer: str) -> None:
    route = ("training", "method")
    if method == "qlora" and quantizer == "none":
        text = "qlora trains over a quantized base, and quantizer is none"
        raise WrongSetting(route, f"{text}; name one, such as bnb-nf4, or write lora")
    if method == "full" and quantizer != "none":
        text = f"full can't train over {quantizer}: integer weights take no gradient"
        raise WrongSetting(route, f"{text}; write lora, or quantizer: none")


def _train(
    settings: SftStep,
    job: StepJob,
    source: opening.ModelSource,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    asked: Dataset,
) -> str:
    options = settings.training
    examples = _examples(tokenizer, asked, options.max_seq_length)

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
    return (
        f"{trained.moved} of {trained.tensors} trained tensors changed; the loss of {len(asked)} "
        f"rows went from {trained.before:.4g} to {trained.after:.4g} nats per token"
    )


def _examples(tokenizer: PreTrainedTokenizerBase, rows: Dataset, longest: int) -> Sequence[Example]:
    eos = training.eos_of(tokenizer)
    texts = [("", f"{text}{eos}") for text in rows["text"]]
    examples = tokenize_all(tokenizer, texts)
    return [replace(e, ids=e.ids[:longest], counted=e.counted[:longest]) for e in examples]
