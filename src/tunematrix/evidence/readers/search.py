"""Finds the log of a run among the files that it left, by what is in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tunematrix.errors import BadInput, did_you_mean
from tunematrix.evidence.events import LoggedStep
from tunematrix.evidence.readers.content import LogContent, LogFile, LogReader
from tunematrix.evidence.readers.registry import SHIPPED
from tunematrix.paths import files_below, shown

CLOCK_TICK = 0.02
"""Seconds by which a file's time can lag behind the clock that the start was taken from."""
MOST_FILES = 2_000
"""Files that are looked at; a trainer's output has tens."""
NO_LOGS = frozenset(
    [
        ".bin",
        ".ckpt",
        ".gguf",
        ".html",
        ".ipynb",
        ".jinja",
        ".md",
        ".npy",
        ".npz",
        ".pt",
        ".pth",
        ".py",
        ".pyc",
        ".safetensors",
        ".toml",
        ".yaml",
        ".yml",
    ]
)
"""Endings of files that hold weights, sources or settings."""


@dataclass(frozen=True)
class TrainerLog:
    """A trainer's log.

    Attributes:
        path: the file it was read from.
        reader: name of the reader that recognised it.
        steps: in the order of their numbers, which begin with 0 or 1 as the trainer counts.
        cut_off: the end is missing: the trainer was ended, or is writing still.
        others: further files that are logs as well, best first; they were not used.
    """

    path: Path
    reader: str
    steps: tuple[LoggedStep, ...]
    cut_off: bool = False
    others: tuple[Path, ...] = ()


@dataclass(frozen=True)
class LookedAt:
    """A file in which no log was recognised.

    Attributes:
        path: the file.
        size: bytes.
        problem: why it wasn't read; empty where each reader looked and shook its head.
    """

    path: Path
    size: int
    problem: str = ""

    def __str__(self) -> str:
        """Name the file, its size and what was the matter."""
        problem = f": {self.problem}" if self.problem else ""
        return f"{shown(self.path)} ({self.size:,} bytes{problem})"


class LogNotFound(BadInput):
    """No reader recognised a log.

    Attributes:
        looked_at: the files, with the reason for each that wasn't read.
        readers: names of the readers that looked.
    """

    def __init__(
        self, places: Iterable[Path], looked_at: Sequence[LookedAt], readers: Iterable[str]
    ) -> None:
        self.looked_at = tuple(looked_at)
        self.readers = tuple(readers)
        where = " and ".join(shown(place) for place in places)
        listed = ", ".join(str(file) for file in self.looked_at[:12]) or "no file at all"
        more = f" and {len(self.looked_at) - 12} more" if len(self.looked_at) > 12 else ""
        super().__init__(
            f"{where}: no reader recognised the log of a trainer. Looked at {listed}{more}, with "
            f"the log readers {', '.join(self.readers)}. Likely the trainer ended before its "
            "first step, logs to another place, or in a form that none of them knows. Let it log "
            "every step below its output folder or on stdout, or add a reader "
            "(docs/trainer-logs.md)."
        )


def find_log(
    places: Sequence[Path],
    since: float = 0.0,
    readers: Mapping[str, LogReader] = SHIPPED,
    wanted: str | None = None,
) -> TrainerLog:
    """Return the log of a run: the one with most steps, then the one that says most of each.

    Of logs that say as much, the first place's is taken, then the newest.

    Args:
        places: folders, searched with all folders in them, and files; likeliest first.
        since: when the run began, in seconds since 1970; files last written to before that
            are of another run.
        readers: by name.
        wanted: name of the only reader to try.

    Raises:
        LogNotFound: no log was recognised; it names the files that were looked at.
        BadInput: no reader has the wanted name; or a log is malformed, and there is no other.
    """
    if wanted is not None:
        if wanted not in readers:
            raise BadInput(f"no log reader is called {wanted}; {did_you_mean(wanted, readers)}")
        readers = {wanted: readers[wanted]}
    found = _look_through(places, since, readers)
    if not found.logs and found.malformed:
        raise found.malformed[0]
    if not found.logs:
        raise LogNotFound(places, found.others, readers)
    best, *others = sorted(found.logs, key=lambda entry: _rank(*entry), reverse=True)
    return replace(best[1], others=tuple(log.path for _, log in others))


@dataclass(frozen=True)
class _FoundLogs:
    """What files are: logs with the order of their places, malformed logs, and all the others."""

    logs: list[tuple[int, TrainerLog]] = field(default_factory=list)
    malformed: list[BadInput] = field(default_factory=list)
    others: list[LookedAt] = field(default_factory=list)


def _look_through(
    places: Sequence[Path], since: float, readers: Mapping[str, LogReader]
) -> _FoundLogs:
    found = _FoundLogs()
    for order, path in _files(places):
        problem = _unfit(path, since)
        try:
            log = None if problem else _recognise(path, readers)
        except BadInput as error:
            found.malformed.append(error)
            continue
        except OSError as error:
            log, problem = None, str(error)
        if log:
            found.logs.append((order, log))
        else:
            found.others.append(LookedAt(path, _size(path), problem))
    return found


def read_log(path: Path, readers: Mapping[str, LogReader] = SHIPPED) -> TrainerLog:
    """Return what is in one log, by the reader that recognises it.

    Raises:
        BadInput: it can't be read, it is malformed, or no reader recognises it.
    """
    try:
        log = _recognise(path, readers)
        size = _size(path)
    except OSError as error:
        raise BadInput(f"{shown(path)}: can't be read: {error}; check the path") from None
    if log is None:
        raise LogNotFound([path], [LookedAt(path, size)], readers)
    return log


def _recognise(path: Path, readers: Mapping[str, LogReader]) -> TrainerLog | None:
    """Let every reader look; a plug-in's word counts more than that of a shipped reader.

    Raises:
        BadInput: one recognised it and found it malformed.
        OSError: the file can't be read.
    """
    file = LogFile(path)
    logs: list[TrainerLog] = []
    for name, reader in readers.items():
        content = _content(file, name, reader)
        if content is not None:
            logs.append(TrainerLog(path, name, content.steps, content.cut_off))
    return max(logs, key=lambda log: (log.reader not in SHIPPED, *_fullness(log)), default=None)


def _content(file: LogFile, name: str, reader: LogReader) -> LogContent | None:
    where = f"{shown(file.path)}: the log reader {name}"
    try:
        content: object = reader(file)
    except OSError:
        raise
    except ValueError as error:
        text = f"{where} can't read it: {error}; run the trainer again, or correct the log"
        raise BadInput(text) from None
    except Exception as error:  # whatever it is, the reader's author has to know
        text = f"{where} failed with {type(error).__name__}: {error}; mend it"
        raise BadInput(text) from error
    if content is None or isinstance(content, LogContent):
        return content
    raise BadInput(f"{where} returned {type(content).__name__}, not LogContent; mend it")


def _fullness(log: TrainerLog) -> tuple[int, int]:
    """Return how many steps a log has, and how many values in them."""
    values = [(step.loss, step.gradient_norm, step.learning_rate) for step in log.steps]
    return len(log.steps), sum(value is not None for step in values for value in step)


def _rank(order: int, log: TrainerLog) -> tuple[int, int, int, float]:
    return *_fullness(log), -order, log.path.stat().st_mtime


def _files(places: Sequence[Path]) -> Iterator[tuple[int, Path]]:
    """Yield the files at these places, each once, with the place's number."""
    seen: set[tuple[int, int]] = set()
    for order, place in enumerate(places):
        for path in [place] if place.is_file() else files_below(place):
            try:
                status = path.stat()
            except OSError:  # a link to nowhere, or gone meanwhile
                continue
            if (status.st_dev, status.st_ino) not in seen and len(seen) < MOST_FILES:
                seen.add((status.st_dev, status.st_ino))
                yield order, path


def _size(path: Path) -> int:
    return path.stat().st_size


def _unfit(path: Path, since: float) -> str:
    """Return why a file isn't read; empty where it is."""
    status = path.stat()
    if status.st_mtime + CLOCK_TICK < since:
        return "of an earlier run"
    if path.suffix in NO_LOGS:
        return "no log by its name"
    return ""
