"""A server, asked as its users ask it: through OpenAI's own client."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import openai

from tunematrix.errors import StepFailed, TunematrixError
from tunematrix.stack.steps.serving.questions import Question, tidied
from tunematrix.stack.steps.serving.server import Server

TOGETHER = 8
"""Questions that are asked at the same time."""
_SECONDS = 600.0
"""What one answer may take; those that are asked together wait for each other."""
_RETRIES = 2
_LAST_SECONDS = 1.0
"""In which a server that broke off its answer has ended, if that is why."""


@dataclass(frozen=True)
class Reply:
    """What a server answered: without special tokens, and how many tokens it says these are."""

    text: str
    tokens: int


class Client:
    """Asks one server, for the likeliest answer each time.

    Args:
        server: one that is ready. model: by the name that it knows it by.
        most: longest answer (tokens).
    """

    def __init__(self, server: Server, model: str, most: int) -> None:
        self._server, self._model, self._most = server, model, most
        self._openai = openai.OpenAI(
            base_url=server.url,
            api_key="unused",
            max_retries=_RETRIES,
            timeout=_SECONDS,
            # No proxy, and no credentials that variables name: it is this machine.
            http_client=openai.DefaultHttpxClient(trust_env=False),
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._openai.close()

    def ask(self, question: Question) -> Reply:
        """Ask one question, and get its answer as a whole.

        Raises:
            StepFailed: there is no answer. MachineProblem: the server was killed meanwhile.
        """
        try:
            found = self._request(question, stream=False)
            choice = found.choices[0]
            text = choice.text if question.kind == "completion" else choice.message.content
            return Reply(tidied(text or ""), found.usage.completion_tokens)
        except (openai.APIError, AttributeError, IndexError) as error:
            raise self._no_answer(question, error) from error

    def ask_for_stream(self, question: Question) -> str:
        """Ask one question, and put its answer together from the pieces that come.

        Raises:
            StepFailed, MachineProblem: see `ask`.
        """
        pieces = []
        try:
            for chunk in self._request(question, stream=True):
                for choice in chunk.choices:
                    text = choice.text if question.kind == "completion" else choice.delta.content
                    pieces.append(text or "")
        except (openai.APIError, AttributeError) as error:
            raise self._no_answer(question, error) from error
        return tidied("".join(pieces))

    def draw(self, prompt: str, most: int, temperature: float) -> str:
        """Have a prompt completed by tokens that are drawn.

        Args:
            most: longest answer (tokens). temperature: of the draws; 0 takes the likeliest.

        Raises:
            StepFailed, MachineProblem: see `ask`.
        """
        try:
            found = self._openai.completions.create(
                model=self._model, prompt=prompt, max_tokens=most, temperature=temperature
            )
            return tidied(found.choices[0].text or "")
        except (openai.APIError, AttributeError, IndexError) as error:
            raise self._no_answer(Question("completion", prompt), error) from error

    def ask_together(self, questions: list[Question]) -> list[Reply]:
        """Ask all questions at the same time.

        Raises:
            StepFailed, MachineProblem: see `ask`.
        """
        with ThreadPoolExecutor(len(questions)) as pool:
            return list(pool.map(self.ask, questions))

    def _request(self, question: Question, *, stream: bool) -> Any:
        asked: dict[str, Any] = {
            "model": self._model,
            "max_tokens": self._most,
            "temperature": 0,
            "stream": stream,
        }
        if question.kind == "completion":
            return self._openai.completions.create(prompt=question.prompt, **asked)
        return self._openai.chat.completions.create(messages=question.messages, **asked)

    def _no_answer(self, question: Question, error: Exception) -> TunematrixError:
        if self._server.has_ended(_LAST_SECONDS):
            return self._server.end_too_early(f"while it answered {question.prompt!r}")
        return StepFailed(
            f"the server gave no {question.kind} of {question.prompt!r} "
            f"({type(error).__name__}: {error}); it said last: {self._server.last_line()}; "
            f"likely the model fails on this prompt: see {self._server.log}"
        )
