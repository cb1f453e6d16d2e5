"""The step `serve`: a trained model behind a real server, tried as its users will use it."""

from __future__ import annotations

import gc
import importlib.util
import math
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerBase

from tunematrix.configuration.steps import ServeStep
from tunematrix.errors import MachineProblem, Obstacle, Unavailable, WrongSetting
from tunematrix.evidence import events
from tunematrix.stack.steps import answering, judging, opening
from tunematrix.stack.steps.job import Line, StepJob
from tunematrix.stack.steps.serving import ports
from tunematrix.stack.steps.serving.questions import LocalAnswer, Question, answers, ids_of
from tunematrix.stack.steps.serving.server import Server, started

LOG = "serve.log"
MERGED = "merged"
NEEDS = ("fastapi", "openai", "uvicorn")
INSTALL = 'python -m pip install "tunematrix[serving]"'
_READY = "seconds that the server has to get ready"
_ANSWERS = "questions answered by the server"
_TICK = 0.2


@dataclass(frozen=True)
class ServeOrder:
    """What is served, and what it is asked.

    Attributes:
        source: the model that the step was given; tokenizer: its.
        questions: each prompt to be completed, then each as a chat, if the tokenizer can chat.
        dtype: that it is served in. port: of the loopback device.
    """

    source: opening.ModelSource
    tokenizer: PreTrainedTokenizerBase
    questions: tuple[Question, ...]
    dtype: str
    port: int


def run(settings: ServeStep, job: StepJob) -> None:
    """Serve a model by `transformers serve`, ask it all prompts in all ways, and end it.

    What it answers is written down beside what is right, for checks to judge.

    Raises:
        WrongSetting: an entry of the config, or the folder that it names, can't be used.
        Unavailable: what serves isn't installed. MachineProblem: the port is taken, the disk is
            full, or the server was killed.
        StepFailed: the server doesn't get ready, ends by itself or gives no answer.
    """
    line = Line()
    with job.said(line):
        require(NEEDS)
        order = _order(settings, job)
        scorer = settings.scorer
        judge = None if scorer is None else judging.scorer_folder(scorer, job.config)
        source, at = order.source, f"http://{ports.HOST}:{order.port}/v1"
        merges = "merges the adapter, " if source.adapter else ""
        stays = " and stays until Ctrl-C" if settings.stay else ""
        count = f"{len(order.questions)} question{'s' * (len(order.questions) != 1)}"
        does = f"{merges}serves it at {at}, asks {count} in three ways{stays}"
        opening.begin(source, job, does)
        if job.dry_run:
            line.text = "nothing was served or written"
            return
        try:
            right = _local_answers(settings, order, job)
        except torch.cuda.OutOfMemoryError:
            text = f"{job.device} has too little memory for the model"
            raise MachineProblem(f"{text}; see what else computes there") from None
        given = _served(settings, order, right, job)
        if scorer is not None and judge is not None:
            texts = [(one.prompt, one.served) for one in given if one.asked == "completion"]
            judging.score(scorer, lambda: answering.judge(judge, job), texts, job)
        alike = sum(one.served == one.local for one in given)
        line.text = f"{alike} of {len(given)} answers of the server are those of the model itself"


def require(modules: Sequence[str]) -> None:
    """See that modules are installed, without importing them.

    Raises:
        Unavailable: some aren't.
    """
    if lacking := [name for name in modules if importlib.util.find_spec(name) is None]:
        what = ", ".join(lacking)
        found = f"serving needs {what}, which this environment lacks"
        raise Unavailable(Obstacle(f"the modules {what}", found, f"install it with: {INSTALL}"))


def command(folder: Path, order: ServeOrder, device: str) -> tuple[str, ...]:
    """Return the words that start a server of a folder."""
    program = (sys.executable, "-P", "-m", "transformers.cli.transformers", "serve", str(folder))
    where = ("--device", device, "--host", ports.HOST, "--port", str(order.port))
    return (*program, *where, "--dtype", order.dtype, "--log-level", "warning")


def _order(settings: ServeStep, job: StepJob) -> ServeOrder:
    port = ports.chosen(settings.port)
    source = opening.find(settings.model.path, job.config)
    served, route = (
        (source.base, opening.ROUTE)
        if source.adapter is None
        else (job.output_dir / MERGED, ("output_dir",))
    )
    if "@" in str(served):
        text = f"{served} has an @, and the server takes what follows one for a revision"
        raise WrongSetting(route, f"{text}; give the folder another name")
    try:
        tokenizer = opening.tokenizer_of(source)
        base = AutoConfig.from_pretrained(
            source.base, local_files_only=True, trust_remote_code=False
        )
    except opening.UNREADABLE as error:
        raise opening.unreadable(settings.model.path, error) from None
    questions = [Question("completion", prompt) for prompt in settings.prompts]
    if tokenizer.chat_template is None:
        job.warn("its tokenizer has no chat template, so it isn't asked as a chat")
    else:
        questions += [Question("chat", prompt) for prompt in settings.prompts]
    for question in questions:
        _check_length(question, len(ids_of(tokenizer, question)), base, settings)
    return ServeOrder(source, tokenizer, tuple(questions), _dtype(source, base), port)


def _dtype(source: opening.ModelSource, base: PretrainedConfig) -> str:
    """Return the type of the weights that are served; what is merged is saved in float32."""
    own = getattr(base, "dtype", None) if source.adapter is None else None
    return "float32" if own is None else str(own).removeprefix("torch.")


def _check_length(
    question: Question, tokens: int, base: PretrainedConfig, settings: ServeStep
) -> None:
    shown = f"{question.prompt[:60]!r}"
    if not tokens:
        raise WrongSetting(("prompts",), f"{shown} comes to no token; give a prompt with words")
    longest = getattr(base, "max_position_embeddings", None)
    if longest is None or tokens + settings.max_tokens <= longest:
        return
    asked = f"{shown} has {tokens} tokens as a {question.kind}"
    if tokens >= longest:
        text = f"{asked}, and the model has positions for {longest}; shorten it"
        raise WrongSetting(("prompts",), text)
    text = f"{asked}, and with {settings.max_tokens} more it is beyond the model's {longest}"
    raise WrongSetting(("max_tokens",), f"{text}; at most {longest - tokens} are left")


def _local_answers(settings: ServeStep, order: ServeOrder, job: StepJob) -> list[LocalAnswer]:
    """Answer all questions in this process, before anything else needs the memory."""
    try:
        model = opening.load(order.source, job.config, order.dtype)
    except opening.UNREADABLE as error:
        raise opening.unreadable(settings.model.path, error) from None
    right = list(answers(model, order.tokenizer, order.questions, settings.max_tokens))
    del model
    gc.collect()
    if job.device == "cuda":
        torch.cuda.empty_cache()
    return right


def _merged(order: ServeOrder, job: StepJob) -> Path:
    try:
        return opening.save_merged(order.source, job.config, job.output_dir / MERGED).resolve()
    except (OSError, SafetensorError) as error:
        text = f"can't save the merged model in {job.output_dir / MERGED} ({error})"
        text = f"{text}; likely the disk is full: free space, or choose another output_dir"
        raise MachineProblem(text) from error


def _served(
    settings: ServeStep, order: ServeOrder, right: Sequence[LocalAnswer], job: StepJob
) -> list[events.ServedAnswer]:
    """Serve the model, ask it everything, and end the server."""
    # Only here, since OpenAI's client may be missing when this module is imported.
    from tunematrix.stack.steps.serving.client import Client
    from tunematrix.stack.steps.serving.trial import tried

    folder, name, asked = _merged(order, job), job.name, order.questions
    words = command(folder, order, job.device)
    limit = math.ceil(settings.server_timeout)
    if not ports.is_free(order.port):
        raise ports.taken(order.port)
    with started(words, order.port, job.output_dir / LOG) as server:
        ready = server.wait_until_ready(
            settings.server_timeout, lambda passed: job.progress(_READY, int(passed), limit)
        )
        merged = order.source.adapter is not None
        job.events.write(events.Served(name, server.url, str(folder), merged, ready))
        with Client(server, str(folder), settings.max_tokens) as client:
            given = tried(
                client, asked, right, name, lambda done: job.progress(_ANSWERS, done, len(asked))
            )
        for answer in given:
            job.events.write(answer)
        if settings.stay:
            _stay(server)
        if server.has_ended():
            raise server.end_too_early("by itself")
        end = server.stop()
    job.events.write(
        events.ServerEnded(name, end.code, end.killed, end.seconds, end.left, end.port_free)
    )
    return given


def _stay(server: Server) -> None:
    """Wait until the user ends it, or it ends by itself."""
    with _interrupted_by_sigterm(), suppress(KeyboardInterrupt):
        while not server.has_ended():
            time.sleep(_TICK)


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Take SIGTERM, by which a service is ended, for Ctrl-C."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # in a thread, where no signal arrives
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
