"""The answers of a model of PyTorch in this process, which a server's are held against."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from tunematrix.errors import StepFailed
from tunematrix.stack.steps.serving.questions import (
    LocalAnswer,
    Question,
    ids_of,
    is_tie,
    local_answer,
)


def answers(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    most: int,
) -> Iterator[LocalAnswer]:
    """Answer each question alone, by the likeliest token each time.

    Args:
        model: to ask, on its device.
        most: longest answer (tokens).

    Raises:
        StepFailed: the model gives no token a finite score.
    """
    device = next(model.parameters()).device
    settings = _greedy(model, tokenizer, most)
    for question in questions:
        ids = torch.tensor([ids_of(tokenizer, question)], device=device)
        with torch.no_grad():
            found: Any = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=settings,
            )
        if not bool(torch.isfinite(found.scores[0].max())):
            text = "the model's scores aren't finite, so no token is likelier than another"
            raise StepFailed(f"{text}; likely weights that became nan in training: train it again")
        taken: list[int] = found.sequences[0, ids.shape[1] :].tolist()
        ties = [_is_tie(scores[0]) for scores in found.scores]
        yield local_answer(tokenizer, taken, ties)


def _greedy(model: Any, tokenizer: PreTrainedTokenizerBase, most: int) -> Any:
    """Return the model's own settings of generation, without draws."""
    settings = copy.deepcopy(model.generation_config)
    settings.do_sample = False
    settings.temperature = settings.top_p = settings.top_k = None
    settings.max_new_tokens = most
    settings.output_scores = settings.return_dict_in_generate = True
    if settings.pad_token_id is None:
        settings.pad_token_id = tokenizer.pad_token_id
    return settings


def _is_tie(scores: torch.Tensor) -> bool:
    return is_tie(scores.float().cpu().numpy(), str(scores.dtype).removeprefix("torch."))
