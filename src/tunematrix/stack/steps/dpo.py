"""The step `dpo`: a model, or an adapter, is aligned on a file of preferences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from datasets import Dataset
from peft import PeftModel
from torch import nn
from transformers import PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer

from tunematrix.configuration.steps import DpoStep
from tunematrix.evidence.events import StepMerged
from tunematrix.stack import releases
from tunematrix.stack.engines.examples import Example, tokenize
from tunematrix.stack.engines.rules import LibraryRules
from tunematrix.stack.engines.torch import scoring
from tunematrix.stack.engines.torch.dpo_trainer import forget_reference
from tunematrix.stack.engines.torch.padding import pad
from tunematrix.stack.steps import data, lessons, opening, outcome, training
from tunematrix.stack.steps.job import Line, StepJob

MERGED = "base"
"""Folder, below the step's own, of a base that an adapter was merged into."""
_PAIRS_AT_ONCE = 4

Score: TypeAlias = Callable[[nn.Module], float]
"""Asks a model for the mean probability of the chosen answer, of the two."""


def run(settings: DpoStep, job: StepJob) -> None:
    """Align a model; the adapter is saved with its tokenizer.

    Raises:
        WrongSetting: an entry of the config, or the file that it names, can't be used.
        StepFailed: training came to nothing. MachineProblem: the disk is full.
    """
    line = Line()
    with job.said(line):
        source = opening.find(settings.model.path, job.config)
        opening.require_plain(source, job)
        fields = settings.dataset
        rows, asked = data.read(
            fields,
            {
                "prompt": fields.prompt_field,
                "chosen": fields.chosen_field,
                "rejected": fields.rejected_field,
            },
        )
        tokenizer = opening.tokenizer_of(source)
        going_on = training.look_ahead(settings.alignment, job)
        goes_on = settings.alignment.adapter == "continue"
        over = "goes on with its adapter" if goes_on else "a new adapter over the merged one"
        preferences = lessons.counted(len(rows), "preference")
        steps = lessons.counted(settings.alignment.max_steps, "step")
        does = f"{over if source.adapter else 'a new adapter'}; {preferences}, {steps}{going_on}"
        opening.begin(source, job, does)
        line.text = (
            "nothing was trained or written"
            if job.dry_run
            else _train(settings, job, source, tokenizer, rows, asked)
        )


def _start(
    settings: DpoStep, job: StepJob, source: opening.ModelSource, score: Score
) -> tuple[nn.Module, opening.ModelSource]:
    """Return what is trained, and the base that it stands on."""
    options = settings.alignment
    if source.adapter is not None and options.adapter == "continue":
        base = opening.load_base(source, job.config, options.dtype)
        model = PeftModel.from_pretrained(base, str(source.adapter), is_trainable=True)
        outcome.hold_to_file(model, source.adapter, job)
        return model, source
    if source.adapter is not None:
        source = _merged(source, job, score)
    base = opening.load_base(source, job.config, options.dtype)
    return training.attach(base, opening.layers_of(source), options, job), source


def _merged(source: opening.ModelSource, job: StepJob, score: Score) -> opening.ModelSource:
    """Merge an adapter into its base, and hold what was saved of that to the adapter itself."""
    assert source.adapter is not None
    with lessons.saving(job.output_dir):
        folder = opening.save_merged(source, job.config, job.output_dir / MERGED)
    merged = opening.ModelSource(folder, folder)
    adapted = opening.load(source, job.config)
    assert isinstance(adapted, PeftModel)
    outcome.hold_to_file(adapted, source.adapter, job)
    with adapted.disable_adapter():
        plain = score(adapted)
    both = score(adapted), score(opening.load(merged, job.config))
    job.events.write(StepMerged(job.name, plain, *both))
    return merged


def _train(
    settings: DpoStep,
    job: StepJob,
    source: opening.ModelSource,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    asked: Dataset,
) -> str:
    options = settings.alignment
    pairs = _pairs(tokenizer, asked)

    def score(model: nn.Module) -> float:
        return _preference(model, pairs, tokenizer, job.device)

    def start() -> tuple[nn.Module, opening.ModelSource]:
        return _start(settings, job, source, score)

    def trainer(model: nn.Module, course: training.Course) -> DPOTrainer:
        wanted = {**training.arguments(options, job), "beta": options.beta}
        return DPOTrainer(
            model=model,
            args=DPOConfig(**releases.settings_of(DPOConfig, wanted)),
            train_dataset=rows,
            processing_class=tokenizer,
            callbacks=[course],
        )

    lesson = training.Lesson("preference", start, score, trainer, forget_reference)
    trained = training.teach(lesson, tokenizer, options, job)
    return (
        f"{trained.moved} of {trained.tensors} trained tensors changed; in {len(asked)} rows the "
        f"chosen answer's probability, of the two, went from {trained.before:.4g} to "
        f"{trained.after:.4g}"
    )


def _pairs(tokenizer: PreTrainedTokenizerBase, rows: Dataset) -> Sequence[Example]:
    """Return the chosen and the rejected answer of each row, one after the other."""
    eos, rules = lessons.eos_of(tokenizer), LibraryRules(tokenizer)
    return [
        tokenize(rules, row["prompt"], f"{row[kind]}{eos}")
        for row in rows
        for kind in ("chosen", "rejected")
    ]


def _preference(
    model: nn.Module, pairs: Sequence[Example], tokenizer: PreTrainedTokenizerBase, device: str
) -> float:
    """Return the mean probability of the chosen answer, of the two."""
    rates: list[float] = []
    at_once = 2 * _PAIRS_AT_ONCE
    with scoring.evaluating(model), torch.no_grad():
        for start in range(0, len(pairs), at_once):
            batch = pad(pairs[start : start + at_once], tokenizer, device)
            out = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
            odds = scoring.log_probabilities(out, batch).reshape(-1, 2)
            rates += (odds[:, 0] - odds[:, 1]).sigmoid().tolist()
    return sum(rates) / len(rates)
