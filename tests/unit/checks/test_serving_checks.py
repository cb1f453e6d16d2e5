"""Checks of served models: honest evidence passes, and each planted fault fails its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tunematrix.checks import serving as checks
from tunematrix.checks.registry import checks_of
from tunematrix.evidence.events import Served, ServedAnswer, ServerEnded

if TYPE_CHECKING:
    from tests.unit.conftest import Run

NAMES = {one.name for one in checks_of(checks)}
FIRST, CHAT = 0, 1

# What is planted, the check that must fail, what it measures, and a part of its message.
PLANTED: dict[str, tuple[Callable[[Run], Run], str, int, str]] = {
    "another text": (
        lambda run: run.edited(ServedAnswer, FIRST, served=" a", streamed=" a", together=(" a",)),
        "served_as_local",
        1,
        "1 of 2 answers differ; the completion of 'Once' is ' a', and the model itself answers "
        "' upon a time'; likely a served folder without the adapter",
    ),
    "the same text in other tokens": (
        lambda run: run.edited(ServedAnswer, FIRST, served_tokens=4),
        "served_as_local",
        1,
        "tokenizer",
    ),
    "another text before rounding decides": (
        lambda run: run.edited(
            ServedAnswer, CHAT, served=" their", streamed=" their", together=(" their",)
        ),
        "served_as_local",
        1,
        "the chat of 'Well?' is ' their'",
    ),
    "a stream that loses its end": (
        lambda run: run.edited(ServedAnswer, FIRST, streamed=" upon a"),
        "served_streams_alike",
        1,
        "as a stream ' upon a'",
    ),
    "one of eight differs": (
        lambda run: run.edited(ServedAnswer, CHAT, together=(" there it is", " upon a time")),
        "served_together",
        1,
        "beside others ' upon a time'",
    ),
    "nobody asked beside others": (
        lambda run: run.edited(ServedAnswer, CHAT, together=()),
        "served_together",
        1,
        "mixes up requests",
    ),
    "killed": (
        lambda run: run.edited(ServerEnded, killed=True, seconds=15.1, code=-9),
        "server_left_nothing",
        1,
        "left: the server itself, 15 s after SIGTERM",
    ),
    "a helper and the port": (
        lambda run: run.edited(ServerEnded, left=("sleep 600 (pid 7)",), port_free=False),
        "server_left_nothing",
        2,
        "left: sleep 600 (pid 7), its port",
    ),
}


def test_honest_evidence_passes(serving: Run) -> None:
    """Each speaks."""
    assert {name: serving.verdicts()[name].outcome for name in NAMES} == dict.fromkeys(
        NAMES, "passed"
    )
    assert serving.failed() == set()


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_fails_its_check(serving: Run, name: str) -> None:
    """That one alone, with the cause."""
    plant, check, measured, text = PLANTED[name]
    planted = plant(serving)
    assert planted.failed() == {check}
    verdict = planted.verdicts()[check]
    assert verdict.measured == measured
    assert text in verdict.message


@pytest.mark.parametrize("other", [" there is", " there it was", " there it is!"])
def test_rounding_may_decide(serving: Run, other: str) -> None:
    """From the first token on of which it does, which is the tenth letter of the chat's answer."""
    moved = serving.edited(
        ServedAnswer, CHAT, served=other, streamed=other, together=(other,), served_tokens=5
    )
    assert moved.failed() == (set() if other[:9] == " there it" else {"served_as_local"})


def test_any_code_is_a_good_end(serving: Run) -> None:
    """As long as it ended in time: some servers catch the signal."""
    assert serving.edited(ServerEnded, code=0).failed() == set()


def test_evidence_that_is_missing(serving: Run) -> None:
    """A server that was ready owes its answers and its end; without one, nothing is asked."""
    assert serving.without(ServedAnswer, ServerEnded).failed() == NAMES
    assert not NAMES & set(serving.without(Served, ServedAnswer, ServerEnded).verdicts())
