"""A model behind a server, whatever library serves it: tried as its users will use it."""

from __future__ import annotations

import importlib.util
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunematrix.configuration.answers import ServeStep
from tunematrix.configuration.trainer import Inference
from tunematrix.errors import Obstacle, Unavailable, WrongSetting
from tunematrix.evidence import events
from tunematrix.stack.steps import judging, sources
from tunematrix.stack.steps.job import Line, StepJob
from tunematrix.stack.steps.serving import ports
from tunematrix.stack.steps.serving.host import Host, ServeOrder
from tunematrix.stack.steps.serving.ordering import read_order
from tunematrix.stack.steps.serving.questions import LocalAnswer
from tunematrix.stack.steps.serving.server import Server, started

if TYPE_CHECKING:
    from tunematrix.stack.steps.serving.client import Client

LOG = "serve.log"
_READY = "seconds that the server has to get ready"
_ANSWERS = "questions answered by the server"
_TICK = 0.2


def serve_by(host: Host, settings: ServeStep, job: StepJob) -> None:
    """Serve a model, ask it all prompts in all ways, and end it.

    What it answers is written down beside what is right, for checks to judge.

    Raises:
        WrongSetting: an entry of the config, or the folder that it names, can't be used.
        Unavailable: what serves isn't installed. MachineProblem: the port is taken, the disk is
            full, or the server was killed.
        StepFailed: the server doesn't get ready, ends by itself or gives no answer.
    """
    line = Line()
    with job.said(line):
        require(host.needs, host.install)
        order = read_order(host, settings, job)
        reference = _reference(settings, order, job)
        source, at = order.source, f"http://{ports.HOST}:{order.port}/v1"
        merges = "merges the adapter, " if source.adapter and host.merges else ""
        stays = " and stays until Ctrl-C" if settings.stay else ""
        count = f"{len(order.questions)} question{'s' * (len(order.questions) != 1)}"
        does = f"{merges}serves it at {at}, asks {count} in three ways{stays}"
        sources.begin(source, job, does)
        if job.dry_run:
            line.text = "nothing was served or written"
            return
        # Before anything else needs the memory.
        right = host.answers(order, settings.max_tokens, job)
        trial = _served(host, settings, order, right, job)
        if reference is not None:
            _judge(trial, settings, reference, lambda: host.judge(reference.folder, job), job)
        given = trial.answers
        alike = sum(one.served == one.local for one in given)
        line.text = f"{alike} of {len(given)} answers of the server are those of the model itself"


@dataclass(frozen=True)
class _Reference:
    """The model that judges answers: as it is named, and where it lies."""

    path: str
    folder: Path


@dataclass(frozen=True)
class _Trial:
    """What a server gave: all answers, the completion that was drawn, and the folder it served."""

    answers: Sequence[events.ServedAnswer]
    drawn: str
    folder: Path


def _reference(settings: ServeStep, order: ServeOrder, job: StepJob) -> _Reference | None:
    """Find the model that judges; None where nothing asks for one.

    Raises:
        WrongSetting: it isn't there, or none is named where it would have to be.
    """
    if settings.scorer is not None:
        path = settings.scorer.path
    elif settings.inference is None:
        return None
    elif judging.is_toy(order.tokenizer):
        path = judging.TOY_SCORER
    else:
        text = "needs a scorer, whose path is the folder of a model that judges the completion"
        raise WrongSetting(("inference",), text)
    return _Reference(path, judging.scorer_folder(path, job.config))


def _judge(
    trial: _Trial,
    settings: ServeStep,
    reference: _Reference,
    load: Callable[[], judging.Judge],
    job: StepJob,
) -> None:
    """Write down how likely a reference model, loaded once, finds what the server answered."""
    model = judging.loaded(reference.path, load)
    if settings.scorer is not None:
        texts = [(one.prompt, one.served) for one in trial.answers if one.asked == "completion"]
        judging.score(settings.scorer, model, texts, job)
    if settings.inference is not None:
        prompt = settings.inference.prompt
        likely = judging.perplexity_of(model, prompt + trial.drawn)
        served = str(trial.folder)
        job.events.write(events.Completion(prompt, trial.drawn, likely, reference.path, served))


def require(modules: Sequence[str], install: str) -> None:
    """See that modules are installed, without importing them.

    Raises:
        Unavailable: some aren't.
    """
    if lacking := [name for name in modules if importlib.util.find_spec(name) is None]:
        what = ", ".join(lacking)
        found = f"serving needs {what}, which this environment lacks"
        raise Unavailable(Obstacle(f"the modules {what}", found, f"install it with: {install}"))


def _served(
    host: Host,
    settings: ServeStep,
    order: ServeOrder,
    right: Sequence[LocalAnswer],
    job: StepJob,
) -> _Trial:
    """Serve the model, ask it everything, and end the server."""
    # Only here, since OpenAI's library may be missing when this module is imported.
    from tunematrix.stack.steps.serving.client import Client
    from tunematrix.stack.steps.serving.trial import tried

    drawn = ""
    folder, name, asked = host.prepare(order, job), job.name, order.questions
    words, model = host.command(folder, order, job.device), host.model(folder)
    limit = math.ceil(settings.server_timeout)
    if not ports.is_free(order.port):
        raise ports.taken(order.port)
    with started(words, order.port, job.output_dir / LOG) as server:
        ready = server.wait_until_ready(
            settings.server_timeout, lambda passed: job.progress(_READY, int(passed), limit)
        )
        merged = host.merges and order.source.adapter is not None
        job.events.write(events.Served(name, server.url, model, merged, ready))
        with Client(server, model, settings.max_tokens) as client:
            given = tried(
                client, asked, right, name, lambda done: job.progress(_ANSWERS, done, len(asked))
            )
            if settings.inference is not None:
                drawn = _drawn(client, settings.inference, job)
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
    return _Trial(given, drawn, folder)


def _drawn(client: Client, wanted: Inference, job: StepJob) -> str:
    """Have the completion drawn that is asked for; warn where it looks as if nothing was drawn."""
    text = client.draw(wanted.prompt, wanted.max_tokens, wanted.temperature)
    likeliest = client.draw(wanted.prompt, wanted.max_tokens, 0) if wanted.temperature else None
    if text == likeliest:
        job.warn(
            f"at temperature {wanted.temperature:g} the server gave the likeliest tokens; it may "
            "ignore temperatures, as transformers serve does unless the model's "
            "generation_config.json has do_sample"
        )
    return text


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
