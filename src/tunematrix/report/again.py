"""A record → the one command that repeats its cell."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from tunematrix.environments.table import WATCHED
from tunematrix.report.text import one_line
from tunematrix.results.record import Record
from tunematrix.spec.values import Given

COMMAND = "command"
"""The override that has the words of a command that was watched."""


def run_again(
    record: Record,
    *,
    session: str = "",
    program: Sequence[str] = ("tunematrix",),
    spec: str = "",
    marker: str = "",
    options: Sequence[str] = (),
) -> str:
    """Return the command that repeats a recorded cell, with the faults it ran under.

    Args:
        record: the cell's.
        session: the Nox session that it ran in; empty outside Nox.
        program: how tunematrix is called outside Nox.
        spec: its file as seen from where the command is entered; else from the project.
        marker: what -m has to name for the cell to be there; that of planted ones is known.
        options: others that it ran with.
    """
    if record.environment == WATCHED:
        words = record.overrides.get(COMMAND, ())
        return one_line(shlex.join([*program, "watch", "--", *_as_words(words)]))
    if session:
        command = ["nox", "-s", session, "--", f"{record.spec}::{record.cell_id}"]
    else:
        node = f"{spec or record.spec}::{record.cell_id}"
        command = [*program, "run", "-e", record.environment, node]
    command += [f"--fault={name}" for name in record.faults]
    command += [] if record.seed is None else [f"--seeds={record.seed + 1}"]
    command += options
    marker = marker or ("planted" if record.planted else "")
    command += ["-m", marker] if marker else []
    return one_line(shlex.join(command))


def _as_words(words: Given) -> Sequence[str]:
    return tuple(map(str, words)) if isinstance(words, tuple) else (str(words),)
