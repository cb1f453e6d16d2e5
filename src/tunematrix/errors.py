"""Error families, each with the exit code that the command line and pytest end with.

Attributes of every family:
    exit_code: documented in README.md; pytest's own codes keep their meaning.
"""

from __future__ import annotations

import difflib
import enum
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self


class ExitCode(enum.IntEnum):
    """What the process exits with. 0 to 5 are pytest's own.

    Attributes:
        meaning: as README.md has it, whose table is made from these.
    """

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        """Make a code that knows what it means."""
        made = int.__new__(cls, code)
        made._value_ = code
        made.meaning = meaning
        return made

    PASSED = 0, "everything that ran passed, and something ran"
    FAILED = (
        1,
        "a cell failed; or doctor found that the named environment doesn't work; or an upgrade "
        "isn't safe",
    )
    INTERRUPTED = 2, "interrupted; finished cells are recorded"
    INTERNAL = 3, "an internal error: please report it"
    BAD_INPUT = (
        4,
        "bad input: a spec, a config or an option; the message names file and line. Of `download` "
        "also: what the Hub doesn't have, or not for this token",
    )
    NOTHING_TESTED = 5, "nothing was tested"
    MACHINE = (
        6,
        "the machine can't go on: no space left, no process can be started, or the Hub or a fleet "
        "can't be used",
    )


class TunematrixError(Exception):
    """Base of every error that a user can act on; shown without a traceback."""

    exit_code: ExitCode = ExitCode.INTERNAL


class BadInput(TunematrixError):
    """A spec, a config, an option or a path is wrong; the text says where and what to do."""

    exit_code = ExitCode.BAD_INPUT


class WrongSetting(BadInput):
    """An entry of a step's config, or the file that it names, can't be used.

    Attributes:
        route: keys and list positions that lead to the entry, such as ("dataset", "text_field").
    """

    def __init__(self, route: tuple[str | int, ...], text: str) -> None:
        super().__init__(text)
        self.route = route


class StepFailed(TunematrixError):
    """A step did its work, and what came of it isn't right; the text says what."""

    exit_code = ExitCode.FAILED


class NothingTested(TunematrixError):
    """The run selected no cell, or could run none."""

    exit_code = ExitCode.NOTHING_TESTED


class MachineProblem(TunematrixError):
    """This machine can't go on: no space left, no process can be started."""

    exit_code = ExitCode.MACHINE


class Interrupted(TunematrixError):
    """The user ended it; the text says what is left. Shown as it is, since it is no error."""

    exit_code = ExitCode.INTERRUPTED


@dataclass(frozen=True)
class Obstacle:
    """What stands in the way of using a device, a library or a machine.

    Attributes:
        looked_for: what is needed.
        found: what there is instead.
        to_do: what to do about it.
        present: whether the machine has what is needed at all, though it can't be used.
    """

    looked_for: str
    found: str
    to_do: str
    present: bool = False

    def __str__(self) -> str:
        """Say it in a sentence, as a record's reason does."""
        return f"{self.found}; {self.to_do}"

    @property
    def lines(self) -> tuple[str, str, str]:
        """All of it, for someone who has time to read."""
        return f"looked for: {self.looked_for}", f"found: {self.found}", f"to do: {self.to_do}"


class Unavailable(MachineProblem):
    """A device or a library is missing here, or is there and can't be used.

    Attributes:
        obstacle: what was looked for, what was found, what to do.
    """

    def __init__(self, obstacle: Obstacle) -> None:
        super().__init__(str(obstacle))
        self.obstacle = obstacle


class FaultBroken(RuntimeError):
    """A deliberate fault that raised an error itself, so the run says nothing about the stack.

    Attributes:
        name: of the fault; when: "on its way in" or "on its way out".
    """

    def __init__(self, name: str, when: str, what: str) -> None:
        text = f"the fault {name} raised {when} ({what}); fix the fault; the stack wasn't tested"
        super().__init__(text)
        self.name = name
        self.when = when


class MeterBroken(RuntimeError):
    """A meter of tunematrix raised an error, so the run says nothing about the stack.

    Attributes:
        name: of the meter.
    """

    def __init__(self, name: str, what: str) -> None:
        text = f"the meter {name} of tunematrix raised {what}; this is an error of tunematrix and "
        super().__init__(f"{text}says nothing of the stack: please report it, with stderr.log")
        self.name = name


class RanksEnded(RuntimeError):
    """Processes that a cell was launched in ended early; which is to blame, their logs say.

    Attributes:
        codes: by rank, the exit code of each that was noticed; -9 for signal 9.
        processes: how many there were.
    """

    def __init__(self, codes: Mapping[int, int], processes: int) -> None:
        super().__init__(f"of {processes} processes, these ended early: {dict(codes)}")
        self.codes = dict(codes)
        self.processes = processes


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Return the names that somebody may have meant: likest first, those that begin so included."""
    names = list(known)
    begun = [one for one in names if name and one.startswith(name)]
    begun.sort(key=len)
    close = difflib.get_close_matches(name, names, n=most)
    return list(dict.fromkeys([*close, *begun]))[:most]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the advice that ends a message about an unknown name: close matches, or a list."""
    names = list(known)
    if close := nearest(name, names):
        return f"did you mean {' or '.join(close)}?"
    if not names:
        return "there is none to choose from"
    rest = "" if len(names) <= 12 else f" and {len(names) - 12} more"
    return f"it can be {', '.join(names[:12])}{rest}"


def called(name: str) -> str:
    """Return a name as a message has it; somebody may have given none."""
    return name or "an empty text"


def counted(count: int, noun: str, verb: bool = False) -> str:
    """Return a count with its noun, as people say it: 1 record, 2 records.

    Args:
        count: how many. noun: for one of them; more have an s, or es.
        verb: whether `is` or `are` follows.
    """
    plural = f"{noun}{'es' if noun.endswith('s') else 's'}"
    text = f"{count} {noun if count == 1 else plural}"
    return f"{text} {'is' if count == 1 else 'are'}" if verb else text


def ending(code: int) -> str:
    """Say how a process ended, from its code as Python gives it: negative for a signal."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
