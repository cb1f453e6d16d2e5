"""All that a server is tried with: each question alone, as a stream, and beside others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tunematrix.evidence.events import ServedAnswer
from tunematrix.stack.steps.serving.client import TOGETHER, Client
from tunematrix.stack.steps.serving.questions import LocalAnswer, Question


def tried(
    client: Client,
    questions: Sequence[Question],
    right: Sequence[LocalAnswer],
    name: str,
    tell: Callable[[int], None],
) -> list[ServedAnswer]:
    """Ask everything in all ways.

    Args:
        questions: to ask; right: what the model itself answers to each.
        name: of the step. tell: is told how many questions have been asked in all ways.

    Raises:
        StepFailed: an answer doesn't come. MachineProblem: the server was killed.
    """
    beside = _asked_together(client, questions)
    found = []
    for number, (question, local) in enumerate(zip(questions, right, strict=True), start=1):
        alone, streamed = client.ask(question), client.ask_for_stream(question)
        found += [
            ServedAnswer(
                name=name,
                asked=question.kind,
                prompt=question.prompt,
                local=local.text,
                local_tokens=local.tokens,
                sure=local.sure,
                served=alone.text,
                served_tokens=alone.tokens,
                streamed=streamed,
                together=tuple(text for other, text in beside if other == question),
            )
        ]
        tell(number)
    return found


def _asked_together(client: Client, questions: Sequence[Question]) -> list[tuple[Question, str]]:
    """Ask eight at a time, the first ones again until there are eight."""
    crowd = [
        questions[n % len(questions)] for n in range(-(-len(questions) // TOGETHER) * TOGETHER)
    ]
    found = []
    for start in range(0, len(crowd), TOGETHER):
        part = crowd[start : start + TOGETHER]
        answers = client.ask_together(part)
        found += [(one, answer.text) for one, answer in zip(part, answers, strict=True)]
    return found
