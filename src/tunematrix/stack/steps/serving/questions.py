"""What a model is asked, of a server and in this process, and the answers of this process."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from tunematrix.errors import StepFailed

Kind = Literal["completion", "chat"]
# What two ways of rounding may put in another order, as a share of the range of the scores. Merged
# and unmerged adapters of the toy world differ by up to 1.4e-6 of it in float32 (eight, on a CPU);
# bfloat16 itself rounds by 4e-3, float16 by 5e-4.
_TIE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 2e-3}
_CUT = "\ufffd"


@dataclass(frozen=True)
class Question:
    """A prompt, to be completed, or to be answered as the only message of a user."""

    kind: Kind
    prompt: str

    @property
    def messages(self) -> list[dict[str, str]]:
        """The conversation that a chat begins with."""
        return [{"role": "user", "content": self.prompt}]


@dataclass(frozen=True)
class LocalAnswer:
    """The likeliest answer, taken token by token in this process.

    Attributes:
        text: without special tokens; tokens: how many there are, those included.
        sure: characters of `text` before the first token that another one comes close to, so that
            rounding decides; None where there is no such token.
    """

    text: str
    tokens: int
    sure: int | None


def tidied(text: str) -> str:
    """Return an answer without the letter that it was cut off in."""
    return text.rstrip(_CUT)


def ids_of(tokenizer: PreTrainedTokenizerBase, question: Question) -> list[int]:
    """Return the tokens of a question, as a server makes them."""
    if question.kind == "completion":
        plain: list[int] = tokenizer(question.prompt)["input_ids"]
        return plain
    text = tokenizer.apply_chat_template(
        question.messages, tokenize=False, add_generation_prompt=True
    )
    # The template has written all that there is, such as the token that begins a text.
    chat: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return chat


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
        yield _answer(tokenizer, taken, [scores[0] for scores in found.scores])


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


def _answer(
    tokenizer: PreTrainedTokenizerBase, taken: Sequence[int], scores: Sequence[torch.Tensor]
) -> LocalAnswer:
    def text_of(ids: Sequence[int]) -> str:
        text: str = tokenizer.decode(ids, skip_special_tokens=True)
        return tidied(text)

    tie = next((step for step, each in enumerate(scores) if _is_tie(each)), None)
    sure = None if tie is None else len(text_of(taken[:tie]))
    return LocalAnswer(text_of(taken), len(taken), sure)


def _is_tie(scores: torch.Tensor) -> bool:
    """Whether the second of some scores comes so close to the first that rounding decides."""
    share = _TIE.get(scores.dtype, _TIE[torch.float32])
    finite = scores[torch.isfinite(scores)].float()
    if finite.numel() < 2:
        return False
    first, second = finite.topk(2).values.tolist()
    return bool(first - second <= share * float(finite.max() - finite.min()))
