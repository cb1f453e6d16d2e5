"""The step `serve` on MLX: a trained model behind `mlx_lm.server`, with its adapter over it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx_lm.generate import generate_step
from mlx_lm.tuner.utils import load_adapters
from transformers import PreTrainedTokenizerBase

from tunematrix.configuration.answers import ServeStep
from tunematrix.errors import StepFailed
from tunematrix.stack.mlx_releases import load_trusted
from tunematrix.stack.steps.job import StepJob
from tunematrix.stack.steps.mlx.answering import judge
from tunematrix.stack.steps.mlx.opening import READS, reading
from tunematrix.stack.steps.serving import ports
from tunematrix.stack.steps.serving.host import Host, ServeOrder
from tunematrix.stack.steps.serving.hosting import serve_by
from tunematrix.stack.steps.serving.questions import (
    LocalAnswer,
    Question,
    ids_of,
    is_tie,
    local_answer,
)

DEFAULT = "default_model"
"""What the server calls the model that it was started with: by the name of its folder it would
leave the adapter out."""


def run(settings: ServeStep, job: StepJob) -> None:
    """Serve a model by `mlx_lm.server`, which loads an adapter over its base.

    Raises:
        WrongSetting, Unavailable, MachineProblem, StepFailed: see `serve_by`.
    """
    host = Host(
        needs=("openai",),
        install='python -m pip install "openai>=3"',
        read=READS,
        merges=False,
        refuse=lambda source, job: None,
        answers=_local_answers,
        prepare=lambda order, job: order.source.base,
        command=command,
        model=lambda folder: DEFAULT,
        judge=judge,
    )
    serve_by(host, settings, job)


def command(folder: Path, order: ServeOrder, device: str) -> tuple[str, ...]:
    """Return the words that start a server of a folder, with the adapter that is over it."""
    adapter = order.source.adapter
    over = () if adapter is None else ("--adapter-path", str(adapter))
    where = ("--host", ports.HOST, "--port", str(order.port), "--log-level", "WARNING")
    return (sys.executable, "-P", "-m", "mlx_lm", "server", "--model", str(folder), *over, *where)


def _local_answers(order: ServeOrder, most: int, job: StepJob) -> list[LocalAnswer]:
    """Answer all questions in this process, by the weights as they lie in their files."""
    source = order.source
    with reading(source.path):
        model, config = load_trusted(source.base)
        if source.adapter is not None:
            load_adapters(model, str(source.adapter))
    model.eval()
    ends = _ends(config.get("eos_token_id"), order.tokenizer)
    right = [_answer(model, order.tokenizer, ends, one, most) for one in order.questions]
    del model
    gc.collect()
    mx.clear_cache()
    return right


def _ends(named: int | list[int] | None, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the tokens that end a text for the server: the model's, else its tokenizer's."""
    if named is None:
        return frozenset(() if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,))
    return frozenset((named,) if isinstance(named, int) else named)


def _answer(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    ends: frozenset[int],
    question: Question,
    most: int,
) -> LocalAnswer:
    """Answer one question alone, by the likeliest token each time.

    Raises:
        StepFailed: the model gives no token a finite score.
    """
    taken: list[int] = []
    ties: list[bool] = []
    for token, scores, dtype in _steps(model, ids_of(tokenizer, question), most):
        if not taken and not np.isfinite(scores.max()):
            text = "the model's scores aren't finite, so no token is likelier than another"
            raise StepFailed(f"{text}; likely weights that became nan in training: train it again")
        taken.append(token)
        ties.append(is_tie(scores, dtype))
        if token in ends:
            break
    return local_answer(tokenizer, taken, ties, ends)


def _steps(
    model: nn.Module, ids: list[int], most: int
) -> Iterator[tuple[int, np.ndarray[tuple[int, ...], np.dtype[np.float32]], str]]:
    """Yield each token that mlx-lm takes, the scores of all, and the dtype of these."""
    for token, scores in generate_step(mx.array(ids), model, max_tokens=most):
        dtype = str(scores.dtype).removeprefix("mlx.core.")
        yield int(token), np.array(scores.astype(mx.float32)), dtype
