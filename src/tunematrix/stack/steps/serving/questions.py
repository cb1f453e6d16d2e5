"""What a model is asked, of a server and in this process, and what is sure of an answer."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

from tunematrix.stack.engines.common import Floats

Kind = Literal["completion", "chat"]
# What two ways of rounding may put in another order, as a share of the range of the scores. Merged
# and unmerged adapters of the toy world differ by up to 1.4e-6 of it in float32 (eight, on a CPU);
# bfloat16 itself rounds by 4e-3, float16 by 5e-4.
_TIE = {"float32": 1e-4, "bfloat16": 2e-2, "float16": 2e-3}
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
        text: as a server writes it; tokens: how many there are, those that it leaves out included.
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


def local_answer(
    tokenizer: PreTrainedTokenizerBase,
    taken: Sequence[int],
    ties: Sequence[bool],
    ends: Set[int] | None = None,
) -> LocalAnswer:
    """Return an answer as text.

    Args:
        taken: its tokens; ties: for each, whether another one comes so close that rounding decides.
        ends: of a server that leaves these out and writes other special tokens; None of one that
            leaves out all that are special.
    """

    def text_of(ids: Sequence[int]) -> str:
        seen = [one for one in ids if one not in (ends or ())]
        text: str = tokenizer.decode(seen, skip_special_tokens=ends is None)
        return tidied(text)

    tie = next((step for step, is_one in enumerate(ties) if is_one), None)
    sure = None if tie is None else len(text_of(taken[:tie]))
    return LocalAnswer(text_of(taken), len(taken), sure)


def is_tie(scores: Floats, dtype: str) -> bool:
    """Whether the second of some scores comes so close to the first that rounding decides.

    Args:
        scores: (vocabulary,). dtype: that they were computed in.
    """
    finite = scores[np.isfinite(scores)]
    if finite.size < 2:
        return False
    second, first = np.partition(finite, -2)[-2:]
    share = _TIE.get(dtype, _TIE["float32"])
    return bool(first - second <= share * (finite.max() - finite.min()))
