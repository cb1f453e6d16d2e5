"""What a trainer logged of its steps → events, or the reason why no log was found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunematrix.command.invocation import Invocation
from tunematrix.errors import BadInput
from tunematrix.evidence.events import LogSource, NoTrainerLog
from tunematrix.evidence.log import EventLog
from tunematrix.evidence.readers import LogNotFound, TrainerLog, find_log, log_readers

MUCH = 16_000_000
"""More bytes than this are searched for a log only where no file is one."""
STDOUT = "stdout"
"""How a trainer says that its log is what it prints."""


def write_log(invocation: Invocation, since: float, events: EventLog) -> None:
    """Write down the steps that this run of a trainer has logged.

    Args:
        invocation: how it was called. since: when it began (seconds since the epoch); a file that
            is older belongs to another run.
        events: where to.
    """
    try:
        log = _log(invocation, since)
    except BadInput as error:
        events.write(NoTrainerLog(str(error)))
        return
    output = invocation.run_dir.output
    is_saved = log.path.is_relative_to(output)
    file = log.path.relative_to(output).as_posix() if is_saved else STDOUT
    events.write(LogSource(file, log.reader, log.cut_off))
    for step in log.steps:
        events.write(step)


def _log(invocation: Invocation, since: float) -> TrainerLog:
    """Return the log of a run, where its trainer says that it is, or wherever it is found.

    Raises:
        BadInput: there is none; the text says what was looked at.
    """
    readers = log_readers()
    output, printed = invocation.run_dir.output, invocation.stdout
    wanted = invocation.command.template.log
    if wanted in ("", *readers):
        try:
            saved = find_log([output], since, readers, wanted or None)
        except LogNotFound:
            saved = None
        if not printed.exists() or (saved and printed.stat().st_size > MUCH):
            return saved or find_log([output], since, readers, wanted or None)
        return find_log([output, printed], since, readers, wanted or None)
    return find_log(_places(wanted, output, printed), since, readers)


def _places(wanted: str, output: Path, printed: Path) -> Sequence[Path]:
    """Return the files that a trainer names.

    Raises:
        BadInput: there is none.
    """
    found = [printed] if wanted == STDOUT else sorted(output.glob(wanted))
    if not found:
        made = sorted(p.relative_to(output).as_posix() for p in output.rglob("*") if p.is_file())
        there = ", ".join(made[:5]) or "nothing"
        text = f"there is no {wanted} below the output folder, which holds {there}"
        raise BadInput(f"{text}; correct `log` of the trainer in pyproject.toml, or remove it")
    return found
