"""What is written down of a trainer that is run as a command."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """What was run.

    Attributes:
        words: the command, as the system got it.
        folder: that it was started in, relative to the project.
        processes: how many were to be started by its launcher, or by us.
        arguments: those that the spec gave it.
    """

    words: tuple[str, ...]
    folder: str
    processes: int
    arguments: dict[str, str]


@dataclass(frozen=True)
class Launched:
    """How many processes trained together under a launcher of several.

    Attributes:
        processes: how many did. wanted: how many were to.
        way: what was counted.
    """

    processes: int
    wanted: int
    way: str


@dataclass(frozen=True)
class RankEnded:
    """One of several processes ended the others, or kept them waiting.

    Attributes:
        rank: which, from 0; None where it may be any of them. processes: how many there were.
        how: what became of it, such as "ended with exit code 1".
        last_lines: what it said last, or where it was when the time was over.
    """

    rank: int | None
    processes: int
    how: str
    last_lines: tuple[str, ...]


@dataclass(frozen=True)
class LogSource:
    """Where the logged steps were read.

    Attributes:
        file: relative to the output folder; "stdout" for what was printed.
        reader: the name of the log reader.
        cut_off: whether its end is missing.
    """

    file: str
    reader: str
    cut_off: bool


@dataclass(frozen=True)
class NoTrainerLog:
    """No log was found.

    Attributes:
        reason: what was looked at, and why none of it is the log.
    """

    reason: str


@dataclass(frozen=True)
class Repository:
    """What a run changed in the folder that it was started in, though its output was redirected.

    Attributes:
        changed: paths that were added, changed or removed, relative to the project.
        way: how that was found out: "git status" or "listing", or both.
        beside: the cells that ran commands in it at the same time.
    """

    changed: tuple[str, ...]
    way: str
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class DeviceMemory:
    """What the processes of a command took of a GPU's memory at most.

    Attributes:
        bytes: the peak; method: how it was read.
    """

    bytes: int
    method: str


@dataclass(frozen=True)
class LibraryLoaded:
    """Whether a process of a command had a shared library in its memory.

    Attributes:
        library: the beginning of its file's name. loaded: whether one had it, at any time.
    """

    library: str
    loaded: bool


@dataclass(frozen=True)
class Completion:
    """A text that the served checkpoint completed, and its perplexity by a reference model.

    Attributes:
        prompt, text: what was asked, and the answer.
        perplexity: of both together, by the scorer.
        scorer: the folder or the name of the model that scored it.
        checkpoint: what was served, relative to the output folder.
    """

    prompt: str
    text: str
    perplexity: float
    scorer: str
    checkpoint: str


@dataclass(frozen=True)
class NoCompletion:
    """There is no completion to score.

    Attributes:
        reason: what went wrong, and what to do.
    """

    reason: str
