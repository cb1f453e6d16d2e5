"""The step `serve`: a trained model behind `transformers serve`, tried as its users will use it."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn

from tunematrix.configuration.answers import ServeStep
from tunematrix.errors import MachineProblem, WrongSetting
from tunematrix.stack.steps import answering, opening
from tunematrix.stack.steps.job import StepJob
from tunematrix.stack.steps.serving import ports
from tunematrix.stack.steps.serving.host import Host, ServeOrder
from tunematrix.stack.steps.serving.hosting import serve_by
from tunematrix.stack.steps.serving.local import answers
from tunematrix.stack.steps.serving.questions import LocalAnswer

MERGED = "merged"
NEEDS = ("fastapi", "openai", "uvicorn")
INSTALL = 'python -m pip install "tunematrix[serving]"'


def run(settings: ServeStep, job: StepJob) -> None:
    """Serve a model by `transformers serve`; an adapter is merged first.

    Raises:
        MachineProblem: the device has too little memory. See `serve_by` for others.
    """
    host = Host(
        needs=NEEDS,
        install=INSTALL,
        read="peft",
        merges=True,
        refuse=_refuse,
        answers=_local_answers,
        prepare=_merged,
        command=command,
        model=str,
        judge=answering.judge,
    )
    serve_by(host, settings, job)


def command(folder: Path, order: ServeOrder, device: str) -> tuple[str, ...]:
    """Return the words that start a server of a folder."""
    program = (sys.executable, "-P", "-m", "transformers.cli.transformers", "serve", str(folder))
    where = ("--device", device, "--host", ports.HOST, "--port", str(order.port))
    return (*program, *where, "--dtype", order.dtype, "--log-level", "warning")


def _refuse(source: opening.ModelSource, job: StepJob) -> None:
    served, route = (
        (source.base, opening.ROUTE)
        if source.adapter is None
        else (job.output_dir / MERGED, ("output_dir",))
    )
    if "@" in str(served):
        text = f"{served} has an @, and the server takes what follows one for a revision"
        raise WrongSetting(route, f"{text}; give the folder another name")


def _local_answers(order: ServeOrder, most: int, job: StepJob) -> list[LocalAnswer]:
    """Answer all questions in this process.

    Raises:
        MachineProblem: the device has too little memory.
    """
    try:
        model = _loaded(order, job)
        right = list(answers(model, order.tokenizer, order.questions, most))
    except torch.cuda.OutOfMemoryError:
        text = f"{job.device} has too little memory for the model"
        raise MachineProblem(f"{text}; see what else computes there") from None
    del model
    gc.collect()
    if job.device == "cuda":
        torch.cuda.empty_cache()
    return right


def _loaded(order: ServeOrder, job: StepJob) -> nn.Module:
    try:
        return opening.load_served(order.source, job.config, order.dtype)
    except opening.UNREADABLE as error:
        raise opening.unreadable(str(order.source.path), error) from None


def _merged(order: ServeOrder, job: StepJob) -> Path:
    try:
        return opening.save_merged(order.source, job.config, job.output_dir / MERGED).resolve()
    except (OSError, SafetensorError) as error:
        text = f"can't save the merged model in {job.output_dir / MERGED} ({error})"
        text = f"{text}; likely the disk is full: free space, or choose another output_dir"
        raise MachineProblem(text) from error
