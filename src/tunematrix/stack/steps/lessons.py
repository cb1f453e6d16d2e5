"""What training steps are told and say, whatever library trains."""

from __future__ import annotations

import errno
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from tunematrix.configuration.steps import SftStep, StepTraining
from tunematrix.errors import MachineProblem, StepFailed, WrongSetting
from tunematrix.evidence.events import StepProgress, StepTrained
from tunematrix.stack.adapters import Format
from tunematrix.stack.engines.examples import Example, tokenize_all
from tunematrix.stack.engines.rules import LibraryRules
from tunematrix.stack.steps import sources
from tunematrix.stack.steps.job import StepJob

_RESUME = "earlier checkpoints in it are kept: make room, then go on with --resume latest"
_NO_ROOM = 1_000_000
"""Bytes; a disk with less is full."""


def base_of(settings: SftStep, job: StepJob, read: Format = "peft") -> sources.ModelSource:
    """Find the model that fine-tuning begins with, and see that it can be trained as asked.

    Args:
        settings: the step's; read: format of the adapters that its library reads.

    Raises:
        WrongSetting: it isn't there, it is an adapter, or method and quantizer don't fit.
    """
    source = sources.find(settings.model.path, job.config, read)
    if source.adapter is not None:
        text = "is an adapter; sft begins with a model: merge it, or give its base's folder"
        raise WrongSetting(sources.ROUTE, f"{settings.model.path} {text}")
    sources.require_plain(source, job)
    _check_method(settings.training.method, job.config.quantizer.name, job.config.backend.qlora)
    return source


def _check_method(method: str, quantizer: str, usual: str) -> None:
    route = ("training", "method")
    if method == "qlora" and quantizer == "none":
        text = "qlora trains over a quantized base, and quantizer is none"
        raise WrongSetting(route, f"{text}; name one, such as {usual}, or write lora")
    if method == "full" and quantizer != "none":
        text = f"full can't train over {quantizer}: integer weights take no gradient"
        raise WrongSetting(route, f"{text}; write lora, or quantizer: none")


def will_do(settings: SftStep, job: StepJob, rows: int) -> str:
    """Return the sentence on what fine-tuning is about to do."""
    method, quantizer = settings.training.method, job.config.quantizer.name
    over = "" if quantizer == "none" else f" over {quantizer}"
    steps = counted(settings.training.max_steps, "step")
    return f"{method}{over} on {counted(rows, 'row')}, {steps}"


def has_done(trained: StepTrained, rows: int) -> str:
    """Return the sentence on what fine-tuning came to, by the loss of so many rows."""
    return (
        f"{trained.moved} of {trained.tensors} trained tensors changed; the loss of {rows} "
        f"rows went from {trained.before:.4g} to {trained.after:.4g} nats per token"
    )


def examples(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], longest: int
) -> Sequence[Example]:
    """Tokenize texts as they are trained on: with their end, and cut to the longest row.

    Raises:
        WrongSetting: the tokenizer has no end token.
    """
    eos = eos_of(tokenizer)
    whole = tokenize_all(LibraryRules(tokenizer), [("", f"{text}{eos}") for text in texts])
    return [replace(e, ids=e.ids[:longest], counted=e.counted[:longest]) for e in whole]


def warn_of_warmup(settings: StepTraining, job: StepJob) -> None:
    """Say so where the learning rate never reaches its full value."""
    warmup, steps = settings.warmup_steps, settings.max_steps
    if warmup < steps:
        return
    highest = settings.learning_rate * (steps - 1) / warmup
    job.warn(
        f"warmup_steps={warmup} is no shorter than the run of {steps} steps: the learning rate "
        f"begins at 0 and comes to {highest:.2g} of {settings.learning_rate:g} at most; lower it"
    )


def logged(job: StepJob, step: int, total: int, loss: float, rate: float) -> None:
    """Pass on what a trainer logs of a step.

    Raises:
        StepFailed: the loss isn't finite any more.
    """
    job.events.write(StepProgress(job.name, "steps", step, total, loss, rate))
    if not math.isfinite(loss):
        raise StepFailed(
            f"the loss of step {step} is {loss}; likely a learning rate that is "
            "too high, or weights that hold such values; lower learning_rate"
        )


def require_change(trained: StepTrained) -> None:
    """See that training has changed what it trains.

    Raises:
        StepFailed: not a bit of it.
    """
    if not trained.moved:
        raise StepFailed(
            f"{counted(trained.steps, 'step')} changed none of the {trained.tensors} trained "
            "tensors; likely the learning rate was 0 throughout (warmup_steps), or no gradient "
            "reached them"
        )


@contextmanager
def saving(folder: Path, then: str = _RESUME) -> Iterator[None]:
    """Tell a full disk from every other reason for which files can't be written.

    Args:
        then: what a user is to do where it is full.

    Raises:
        MachineProblem: it is full.
    """
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT) or _is_full(folder):
            raise MachineProblem(f"no space left for {folder}; {then}") from error
        raise


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _NO_ROOM
    except OSError:
        return False


def counted(number: int, what: str) -> str:
    """Return a number with its noun: `1 step`, `2 steps`."""
    return f"{number} {what}{'s' * (number != 1)}"


def eos_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the token that ends a text.

    Raises:
        WrongSetting: the tokenizer has none.
    """
    if tokenizer.eos_token is None:
        text = "its tokenizer has no end token (eos_token), so that no answer would ever end"
        raise WrongSetting(("model", "path"), f"{text}; set one in tokenizer_config.json")
    return str(tokenizer.eos_token)
