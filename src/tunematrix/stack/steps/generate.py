"""The step `generate`: prompts are answered by a model, with its adapter if it has one."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig, PreTrainedTokenizerBase

from tunematrix.configuration.answers import GenerateStep
from tunematrix.errors import MachineProblem, StepFailed, WrongSetting, counted
from tunematrix.stack.engines.common import Sampling
from tunematrix.stack.steps import comparing, data, judging, sources
from tunematrix.stack.steps.asking import Asking, Library
from tunematrix.stack.steps.job import Line, StepJob
from tunematrix.stack.steps.prompts import Prompt, PromptAnswer, tokenized

FILE = "generated.jsonl"
_SHOWN = 40


@dataclass(frozen=True)
class Asked:
    """All that is known before a weight is read.

    Attributes:
        scorer: folder of the reference model; None for none.
    """

    source: sources.ModelSource
    tokenizer: PreTrainedTokenizerBase
    prompts: Sequence[Prompt]
    scorer: Path | None


def run(settings: GenerateStep, job: StepJob) -> None:
    """Answer all prompts by a model of PyTorch; see `answer`.

    Raises:
        MachineProblem: the device has too little memory. See `answer` for others.
    """
    # Only here, since MLX's environment has no PyTorch.
    import torch

    from tunematrix.stack.steps.answering import LIBRARY

    try:
        answer(settings, job, LIBRARY)
    except torch.cuda.OutOfMemoryError:
        batch = settings.generation.batch_size
        text = f"{job.device} has too little memory for {batch} prompts at a time"
        advice = "lower generation.batch_size, or see what else computes there"
        raise MachineProblem(f"{text}; {advice}") from None


def answer(settings: GenerateStep, job: StepJob, library: Library) -> None:
    """Answer all prompts; `generated.jsonl` in the output folder has an object a line.

    Its keys: prompt; answer; tokens, their number; ended, whether the model came to an end by
    itself; and perplexity, where there is a scorer.

    Raises:
        WrongSetting: an entry of the config, or the file that it names, can't be used.
        StepFailed: the model's logits aren't finite. MachineProblem: nothing can be written.
    """
    line = Line()
    with job.said(line):
        asked = _read(settings, job, library)
        options = settings.generation
        how = f"drawn at {options.temperature:g}" if options.temperature else "the likeliest"
        due = counted(len(asked.prompts), "answer")
        does = f"{due}, {how}, of {options.max_new_tokens} tokens at most"
        sources.begin(asked.source, job, does)
        line.text = (
            "nothing was written" if job.dry_run else _answer_all(settings, job, asked, library)
        )


def _read(settings: GenerateStep, job: StepJob, library: Library) -> Asked:
    source = sources.find(settings.model.path, job.config, library.read)
    scorer = settings.scorer
    folder = None if scorer is None else judging.scorer_folder(scorer.path, job.config)
    try:
        tokenizer = sources.tokenizer_of(source)
        model = AutoConfig.from_pretrained(
            source.base, local_files_only=True, trust_remote_code=False
        )
    except sources.UNREADABLE as error:
        raise sources.unreadable(settings.model.path, error) from None
    longest = getattr(model, "max_position_embeddings", None)
    return Asked(source, tokenizer, _prompts(settings, tokenizer, longest), folder)


def _prompts(
    settings: GenerateStep, tokenizer: PreTrainedTokenizerBase, longest: int | None
) -> list[Prompt]:
    """Read and tokenize all prompts, and see that each can be answered.

    Raises:
        WrongSetting: one is blank, or is too long for the model.
    """
    texts: Sequence[str] = settings.prompts
    route: tuple[str, ...] = ("prompts",)
    if settings.dataset is not None:
        route = ("dataset", "path")
        texts = data.prompts(settings.dataset)
    prompts = []
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            problem = "is empty, and a model needs something to go on from"
            raise WrongSetting(route, f"prompt {number} {problem}; write it, or leave it out")
        ids = tokenized(tokenizer, text)
        if not ids:
            problem = f"the tokenizer makes no token of prompt {number} ({shown(text)})"
            advice = "likely its files aren't the model's own, or are read by another's rules"
            raise WrongSetting(sources.ROUTE, f"{problem}; {advice}: save the tokenizer again")
        _check_length(Prompt(text, ids), number, settings, longest, route)
        prompts.append(Prompt(text, ids))
    return prompts


def shown(text: str) -> str:
    """Return a text as a message shows it."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def _check_length(
    prompt: Prompt, number: int, settings: GenerateStep, longest: int | None, route: tuple[str, ...]
) -> None:
    if longest is None:
        return
    length, most = len(prompt.ids), settings.generation.max_new_tokens
    has = f"prompt {number} ({shown(prompt.text)}) has {length} tokens"
    if length >= longest:
        raise WrongSetting(route, f"{has}, and the model has {longest} positions; shorten it")
    if length + most > longest:
        text = f"{most} more than {has} don't fit into the model's {longest} positions"
        advice = f"lower it to {longest - length}, or shorten the prompt"
        raise WrongSetting(("generation", "max_new_tokens"), f"{text}; {advice}")


def _answer_all(settings: GenerateStep, job: StepJob, asked: Asked, library: Library) -> str:
    options, prompts = settings.generation, asked.prompts
    places = comparing.spread(prompts)
    some = [prompts[place] for place in places]
    source = asked.source
    asking = library.open(source, asked.tokenizer, options.batch_size, job)
    before = comparing.base_logits(asking, some)
    if source.adapter is not None:
        asking = asking.with_adapter(source.adapter)
    _require_finite(asking, some[0])
    sampling = Sampling(options.max_new_tokens, options.temperature, options.seed, cache=True)
    answers: list[PromptAnswer] = []
    for batch in asking.answers(prompts, sampling):
        answers += batch
        job.progress("prompts", len(answers), len(prompts))
    _write(job.output_dir / FILE, answers, [])
    most = min(options.max_new_tokens, comparing.MOST_TOKENS)
    likeliest = (
        asking.likeliest(some, most)
        if options.temperature
        else [answers[place].tokens[:most] for place in places]
    )
    comparing.compare(job, asking, some, likeliest, most)
    if asked.source.adapter is not None:
        comparing.compare_adapter(job, asking, some, likeliest, before, most)
    return _judged(settings, job, asked, answers, library)


def _judged(
    settings: GenerateStep,
    job: StepJob,
    asked: Asked,
    answers: Sequence[PromptAnswer],
    library: Library,
) -> str:
    said = f"{counted(len(answers), 'answer')} in {job.output_dir / FILE}"
    if stories := judging.grammatical(asked.tokenizer, answers, job):
        said += f"; {stories.following} of {stories.texts} go on as stories of the toy world"
    scorer = asked.scorer
    if settings.scorer is not None and scorer is not None:
        texts = [(answer.prompt.text, answer.text) for answer in answers]
        model = judging.loaded(settings.scorer.path, lambda: library.judge(scorer, job))
        figures = judging.score(settings.scorer, model, texts, job)
        _write(job.output_dir / FILE, answers, figures)
        largest = max((one for one in figures if not math.isnan(one)), default=math.nan)
        said += f"; perplexity {largest:.4g} at most, by {settings.scorer.path}"
    return said


def _require_finite(asking: Asking, prompt: Prompt) -> None:
    """See that there is something to choose by.

    Raises:
        StepFailed: a logit is nan, or is infinite and no ban.
    """
    if not math.isfinite(asking.logits(prompt, 1).max()):
        text = "the model's logits aren't finite, so no token is likelier than another"
        raise StepFailed(f"{text}; likely weights that became nan in training: train it again")


def _write(path: Path, answers: Sequence[PromptAnswer], perplexities: Sequence[float]) -> None:
    """Write all answers, or leave what was there as it is.

    Raises:
        MachineProblem: there is no space, or the folder can't be written to.
    """
    scored: Sequence[float | None] = perplexities or [None] * len(answers)
    lines = [_line(*pair) for pair in zip(answers, scored, strict=True)]
    unfinished = path.with_suffix(".unfinished")
    try:
        unfinished.write_text("".join(lines), encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        text = f"{path} can't be written ({error.strerror or error})"
        raise MachineProblem(f"{text}; free some space, or name another output_dir") from None


def _line(answer: PromptAnswer, perplexity: float | None) -> str:
    """Return one line of JSON; a perplexity that is no figure is null."""
    fields: dict[str, object] = {
        "prompt": answer.prompt.text,
        "answer": answer.text,
        "tokens": len(answer.tokens),
        "ended": answer.ended,
    }
    if perplexity is not None:
        fields["perplexity"] = perplexity if math.isfinite(perplexity) else None
    return json.dumps(fields, ensure_ascii=False) + "\n"
