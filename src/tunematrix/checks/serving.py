"""What a served model must prove: it answers as the model itself, in every way of asking."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tunematrix.checks.bound import Exactly
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, listed, missing
from tunematrix.evidence.events import Served, ServedAnswer, ServerEnded
from tunematrix.evidence.evidence import Evidence

_SHOWN = 80


@check(
    name="served_as_local",
    group="pipeline",
    reads=(Served, ServedAnswer),
    unit="answers",
    bug=(
        "servers that leave out the adapter or load another model, tokenizers and chat templates "
        "that were saved otherwise than trained with, merges that change the model"
    ),
)
def served_as_local(evidence: Evidence, claim: Claim) -> Judgement | None:
    """A server answers each prompt as the model that it was given does by itself.

    Reads the likeliest answers of both, as completions and, where the tokenizer has a chat
    template, as chats: their texts and their numbers of tokens. Fails when one differs before the
    first token of which rounding decides.
    """
    return _judged(
        evidence,
        lambda one: not _as_local(one),
        lambda one: f"the model itself answers {_shown(one.local)}",
        "a served folder without the adapter, another model, another chat template or tokenizer, "
        "or a generation_config.json that asks for more than the likeliest token; compare the "
        "served folder with what was trained",
    )


@check(
    name="served_streams_alike",
    group="pipeline",
    reads=(Served, ServedAnswer),
    unit="answers",
    bug="streams that lose pieces, spaces or their end; draws where the likeliest was asked for",
)
def served_streams_alike(evidence: Evidence, claim: Claim) -> Judgement | None:
    """A server streams the same answer that it gives as a whole.

    Reads the likeliest answer to each prompt, given whole and put together from its pieces. Fails
    when they differ.
    """
    return _judged(
        evidence,
        lambda one: one.streamed != one.served,
        lambda one: f"as a stream {_shown(one.streamed)}",
        "pieces that the server loses, or a tokenizer that decodes single tokens otherwise than "
        "many; ask without streaming, or try another release of the server",
    )


@check(
    name="served_together",
    group="pipeline",
    reads=(Served, ServedAnswer),
    unit="answers",
    bug="requests at the same time that share a cache, a seed or their settings",
)
def served_together(evidence: Evidence, claim: Claim) -> Judgement | None:
    """A server answers a prompt the same when it is asked others at the same time.

    Reads the likeliest answers to eight requests at a time, and to each of them alone. Fails when
    one differs.
    """
    return _judged(
        evidence,
        lambda one: not one.together or any(text != one.served for text in one.together),
        lambda one: (
            f"beside others {_shown(next((t for t in one.together if t != one.served), ''))}"
        ),
        "a server that mixes up requests; ask one at a time, or try another release of it",
    )


@check(
    name="server_left_nothing",
    group="pipeline",
    reads=(Served, ServerEnded),
    unit="things left",
    bug="servers that ignore SIGTERM, helpers that outlive them, ports that stay taken",
)
def server_left_nothing(evidence: Evidence, claim: Claim) -> Judgement | None:
    """A server that is told to end does so, and leaves no process and its port free.

    Reads how it ended after SIGTERM, which of its processes still ran 2 s later, and whether its
    port could be listened at. Fails when it had to be killed, a process was left, or the port was
    taken.
    """
    if evidence.one(Served) is None:
        return None
    end = evidence.one(ServerEnded)
    if end is None:
        return missing("the server's end")
    left = list(end.left)
    if end.killed:
        left.append(f"the server itself, {end.seconds:.0f} s after SIGTERM")
    if not end.port_free:
        left.append("its port")
    message = (
        f"left: {listed(left)}; likely a helper process or a thread that doesn't end with the "
        "server; see serve.log"
    )
    return judge_by(Exactly(0), len(left), message)


def _judged(
    evidence: Evidence,
    is_wrong: Callable[[ServedAnswer], bool],
    other: Callable[[ServedAnswer], str],
    cause: str,
) -> Judgement | None:
    """Count wrong answers; show the first. None where nothing was served."""
    if evidence.one(Served) is None:
        return None
    answers: Sequence[ServedAnswer] = evidence.all(ServedAnswer)
    if not answers:
        return missing("the server's answers")
    wrong = [one for one in answers if is_wrong(one)]
    message = ""
    if wrong:
        first = wrong[0]
        message = (
            f"{len(wrong)} of {len(answers)} answers differ; the {first.asked} of "
            f"{_shown(first.prompt)} is {_shown(first.served)}, and {other(first)}; likely {cause}"
        )
    return judge_by(Exactly(0), len(wrong), message)


def _as_local(one: ServedAnswer) -> bool:
    if one.sure is not None:
        return one.served[: one.sure] == one.local[: one.sure]
    return (one.served, one.served_tokens) == (one.local, one.local_tokens)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
