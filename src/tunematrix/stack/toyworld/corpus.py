"""Training and held-out data of the toy world: a form, a dialect and a seed in; rows for TRL out.

The same arguments give the same data on every machine. A story's hash decides whether it may be
trained on, so training and held-out stories can't overlap, whatever their seeds. The hash knows
nothing of the grammar: exact probabilities of held-out stories remain the best that can be reached.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from tunematrix.stack.toyworld import grammar
from tunematrix.stack.toyworld.grammar import Dialect

Form = Literal["text", "chat", "chat-completion", "prompt-completion", "unequal"]
CONVERSATIONS: tuple[Form, ...] = ("chat", "chat-completion")
Split = Literal["train", "held-out"]
Row = dict[str, Any]  # the columns that TRL expects: strings, or a list of messages

REQUESTS = (
    "Tell a story that begins: {opening}",
    "Please go on: {opening}",
    "What happened next? Begin with {opening} and tell me the whole story.",
)
SEPARATOR = "\n"

_OPENING_WORDS = 2  # the same in all stories of a dialect: a request gives nothing else away
PROMPT_WORDS = (2, 12)
_MOST_STORIES = 3


def stories(dialect: Dialect, count: int, seed: int, split: Split = "train") -> list[str]:
    """Return the first `count` stories of the seed's stream; no story is in both splits."""
    return list(itertools.islice(_stream(dialect, _rng(dialect, seed, split), split), count))


def rows(form: Form, dialect: Dialect, count: int, seed: int, split: Split = "train") -> list[Row]:
    """Return the first `count` rows of the seed's stream, in the columns that TRL expects.

    Returns:
        text: {"text"}, one story.
        chat: {"messages"}, the user asks with the dialect's opening, the assistant tells a story.
        chat-completion: {"prompt", "completion"}, the same conversation in two lists of messages.
        prompt-completion: {"prompt", "completion"}, cut before a space after 2 to 12 words, so
            that every word but the first two is supervised in some rows.
        unequal: {"text"}, one to three stories on lines of their own; the number is uniform, which
            adds log(3) nats to the row's entropy.
    """
    rng = _rng(dialect, seed, split)
    stream = _stream(dialect, rng, split)
    return [_row(form, stream, rng) for _ in range(count)]


def messages(row: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return a conversation's turns, the assistant's last, however its row keeps them."""
    found: list[dict[str, str]] = row.get("messages") or [*row["prompt"], *row["completion"]]
    return found


def supervised_texts(form: Form, row: Mapping[str, Any], eos: str) -> str:
    """Return the exact text whose tokens must count in the loss of the row, and no others.

    Args:
        eos: text of the token that ends a sequence and an assistant's turn.
    """
    if form in CONVERSATIONS:
        return f"{messages(row)[-1]['content']}{eos}"
    return f"{row['completion' if form == 'prompt-completion' else 'text']}{eos}"


def floor(dialect: Dialect, stories: Iterable[str]) -> float:
    """Return the exact negative log-probability of all the stories together, in nats."""
    return -math.fsum(grammar.log_probability(dialect, story) for story in stories)


def row_floor(form: Form, dialect: Dialect, row: Mapping[str, Any]) -> float:
    """Return the exact negative log-probability, in nats, of what counts, given the text before."""
    if form in CONVERSATIONS:
        return floor(dialect, [messages(row)[-1]["content"]])
    if form == "prompt-completion":
        given = grammar.opening_log_probability(dialect, row["prompt"])
        return floor(dialect, [row["prompt"] + row["completion"]]) + given
    if form == "unequal":
        return floor(dialect, row["text"].split(SEPARATOR)) + math.log(_MOST_STORIES)
    return floor(dialect, [row["text"]])


def _row(form: Form, stream: Iterator[str], rng: random.Random) -> Row:
    story = next(stream)
    if form == "text":
        return {"text": story}
    if form == "unequal":
        more = rng.randrange(_MOST_STORIES)
        return {"text": SEPARATOR.join([story, *itertools.islice(stream, more)])}
    if form == "prompt-completion":
        prompt = _first_words(story, rng.randint(*PROMPT_WORDS))
        return {"prompt": prompt, "completion": story.removeprefix(prompt)}
    asked, told = requested(story, rng), answered(story)
    if form == "chat-completion":
        return {"prompt": asked, "completion": told}
    return {"messages": [*asked, *told]}


def requested(story: str, rng: random.Random) -> list[dict[str, str]]:
    """Return the turns of a conversation that ask for a story with its opening."""
    request = rng.choice(REQUESTS).format(opening=_first_words(story, _OPENING_WORDS))
    return [{"role": "user", "content": request}]


def answered(story: str) -> list[dict[str, str]]:
    """Return the assistant's turn that tells a story."""
    return [{"role": "assistant", "content": story}]


def _first_words(story: str, count: int) -> str:
    return " ".join(story.split(" ")[:count])


def _stream(dialect: Dialect, rng: random.Random, split: Split) -> Iterator[str]:
    while True:
        story = grammar.sample(dialect, rng)
        if _split(story) == split:
            yield story


def _split(story: str) -> Split:
    return "held-out" if hashlib.sha256(story.encode()).digest()[0] % 2 else "train"


def _rng(dialect: Dialect, seed: int, split: Split) -> random.Random:
    return random.Random(f"{dialect}/{split}/{seed}")
