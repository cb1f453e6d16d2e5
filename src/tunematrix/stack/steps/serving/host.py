"""What a library that serves does for the step, and what it is asked to serve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from tunematrix.stack.adapters import Format
from tunematrix.stack.steps import judging, sources
from tunematrix.stack.steps.job import StepJob
from tunematrix.stack.steps.serving.questions import LocalAnswer, Question


@dataclass(frozen=True)
class ServeOrder:
    """What is served, and what it is asked.

    Attributes:
        source: the model that the step was given; tokenizer: its.
        questions: each prompt to be completed, then each as a chat, if the tokenizer can chat.
        dtype: that it is served in. port: of the loopback device.
    """

    source: sources.ModelSource
    tokenizer: PreTrainedTokenizerBase
    questions: tuple[Question, ...]
    dtype: str
    port: int


@dataclass(frozen=True)
class Host:
    """What a library does for the step.

    Attributes:
        needs: modules that its server and our client need; install: command that brings them.
        read: format of the adapters that it reads.
        merges: whether its server takes whole models alone, so that an adapter is merged first.
        refuse: raises WrongSetting where the server can't take an order's folder.
        answers: answers the questions of an order in this process.
        prepare: returns the folder that is served, once it is there.
        command: the words that start a server of a folder.
        model: the name that the server knows that folder by.
        judge: loads a reference model.
    """

    needs: tuple[str, ...]
    install: str
    read: Format
    merges: bool
    refuse: Callable[[sources.ModelSource, StepJob], None]
    answers: Callable[[ServeOrder, int, StepJob], Sequence[LocalAnswer]]
    prepare: Callable[[ServeOrder, StepJob], Path]
    command: Callable[[Path, ServeOrder, str], tuple[str, ...]]
    model: Callable[[Path], str]
    judge: judging.LoadJudge
