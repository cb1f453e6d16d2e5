from __future__ import annotations

import hashlib
import math
import re
import statistics
from typing import get_args

import pytest

from tunematrix.stack.toyworld import corpus, grammar
from tunematrix.stack.toyworld.corpus import Form, Split

EOS = "<eos>"
FORMS: tuple[Form, ...] = get_args(Form)

FIRST_STORY = (
    "Far away Hana guarded a broken blanket beneath the harbour of Tundra. "
    "Every night people dreamed about the broken blanket until dawn. "
    "No traveller left Tundra without some tale of the blanket. "
    "Then a gentle squirrel called Bodhi knocked and begged for the blanket. "
    "Gladly Hana lent the broken blanket to the gentle squirrel Bodhi."
)


def test_the_same_seed_gives_the_same_stories() -> None:
    """A longer list begins with the shorter one; another seed is another list."""
    stories = corpus.stories("A", 20, 3)
    assert corpus.stories("A", 30, 3)[:20] == stories
    assert corpus.stories("A", 20, 4) != stories


def test_the_data_is_the_same_on_every_machine() -> None:
    """The first story of a seed is pinned: a changed stream would shift every recorded bound."""
    assert corpus.stories("B", 1, 0) == [FIRST_STORY]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("split", "parity"), [("train", 0), ("held-out", 1)])
def test_held_out_stories_are_never_trained_on(form: Form, split: Split, parity: int) -> None:
    """The parity of a story's hash admits it to one split, whatever the seed and the form."""
    for seed in range(3):
        for row in corpus.rows(form, "A", 30, seed, split):
            for story in whole(row).split("\n"):
                assert hashlib.sha256(story.encode()).digest()[0] % 2 == parity


def test_the_split_does_not_bend_the_distribution() -> None:
    """Held-out stories have, on average, the grammar's entropy: within 4 standard errors."""
    surprisals = [
        -grammar.log_probability("B", story) for story in corpus.stories("B", 4000, 0, "held-out")
    ]
    error = statistics.stdev(surprisals) / math.sqrt(len(surprisals))
    assert statistics.mean(surprisals) == pytest.approx(grammar.entropy("B"), abs=4 * error)


def test_the_floor_is_the_sum_over_the_stories() -> None:
    """In nats, of all stories together; infinite as soon as one is not of the dialect."""
    first, second = corpus.stories("A", 2, 0)
    total = -grammar.log_probability("A", first) - grammar.log_probability("A", second)
    assert corpus.floor("A", [first, second]) == pytest.approx(total)
    assert corpus.floor("A", [first, *corpus.stories("B", 1, 0)]) == math.inf


def test_conversations_in_one_list_or_two() -> None:
    """The same turns, the same text that counts, the same floor."""
    (one,), (two,) = (corpus.rows(form, "A", 1, 5) for form in corpus.CONVERSATIONS)
    assert corpus.messages(one) == corpus.messages(two) == [*two["prompt"], *two["completion"]]
    texts = {
        corpus.supervised_texts(form, row, "<end>")
        for form, row in zip(corpus.CONVERSATIONS, (one, two), strict=True)
    }
    assert texts == {f"{one['messages'][-1]['content']}<end>"}
    floors = (corpus.row_floor("chat", "A", one), corpus.row_floor("chat-completion", "A", two))
    assert floors[0] == floors[1]


def test_the_floor_of_a_row_is_that_of_what_counts() -> None:
    """A request is free, a prompt is given, and the number of stories in a row costs log 3."""
    chat, completion, unequal = (
        corpus.rows(form, "A", 1, 5)[0] for form in ("chat", "prompt-completion", "unequal")
    )
    assert corpus.row_floor("chat", "A", chat) == corpus.floor("A", [whole(chat)])
    prompt = -grammar.opening_log_probability("A", completion["prompt"])
    assert prompt > 0
    assert corpus.row_floor("prompt-completion", "A", completion) == pytest.approx(
        corpus.floor("A", [whole(completion)]) - prompt
    )
    assert corpus.row_floor("unequal", "A", unequal) == pytest.approx(
        corpus.floor("A", whole(unequal).split("\n")) + math.log(3)
    )


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_made_of_whole_stories(form: Form) -> None:
    """Put together again, every row is one to three stories of the dialect, and nothing else."""
    for row in corpus.rows(form, "B", 50, 1):
        for story in whole(row).split("\n"):
            assert grammar.log_probability("B", story) > -math.inf


@pytest.mark.parametrize("form", FORMS)
def test_supervised_text_ends_with_eos(form: Form) -> None:
    """What counts is the row's text, completion or answer, and the end that has to be learnt."""
    for row in corpus.rows(form, "B", 50, 1):
        text = corpus.supervised_texts(form, row, EOS)
        counts = row["completion"] if form == "prompt-completion" else whole(row)
        assert text == counts + EOS


def test_prompts_are_of_many_lengths_and_end_between_words() -> None:
    """A prompt is the story's first 2 to 12 words; its completion begins with the space."""
    rows = corpus.rows("prompt-completion", "A", 200, 0)
    assert {len(row["prompt"].split()) for row in rows} == set(range(2, 13))
    assert all(re.match(r" \w", row["completion"]) for row in rows)


def test_requests_give_no_word_of_the_story_away() -> None:
    """The user says only what all stories of the dialect begin with, in several ways."""
    rows = corpus.rows("chat", "A", 200, 0)
    assert all([turn["role"] for turn in row["messages"]] == ["user", "assistant"] for row in rows)
    requests = {row["messages"][0]["content"] for row in rows}
    assert requests == {request.format(opening="Once upon") for request in corpus.REQUESTS}


def test_unequal_rows_have_one_to_three_stories() -> None:
    """One, two and three stories come equally often: within 4 standard errors."""
    counts = [row["text"].count("\n") + 1 for row in corpus.rows("unequal", "A", 900, 0)]
    assert set(counts) == {1, 2, 3}
    assert all(abs(counts.count(number) - 300) < 4 * math.sqrt(200) for number in (1, 2, 3))


def whole(row: corpus.Row) -> str:
    """The stories of a row, put together again."""
    if "messages" in row or not isinstance(row.get("completion", ""), str):
        return corpus.messages(row)[-1]["content"]
    return str(row["text"] if "text" in row else row["prompt"] + row["completion"])
