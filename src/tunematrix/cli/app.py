"""The command-line application, its exit codes, and the options that several verbs share."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import rich_utils
from typer.core import TyperCommand, TyperGroup

from tunematrix.errors import BadInput, ExitCode, Interrupted, TunematrixError
from tunematrix.paths import pytest_file, shown
from tunematrix.project import Project
from tunematrix.report.saying import complain, encode_whatever_comes, safe

FIRST = ("init", "plan", "run", "report", "watch")
"""Verbs that a newcomer looks for."""


class Verb(TyperCommand):
    """A verb whose own option, `--help`, shows no type, since it takes no value."""

    def get_help_option(self, ctx: Any) -> Any:
        """Return `--help`."""
        return _untyped(super().get_help_option(ctx))


class Verbs(TyperGroup):
    """All verbs, each one a `Verb`; `--help` shows no type here either."""

    def get_help_option(self, ctx: Any) -> Any:
        """Return `--help`."""
        return _untyped(super().get_help_option(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all verbs, those that everybody begins with first."""
        first = (name for name in FIRST if name in self.commands)
        return list(dict.fromkeys([*first, *self.commands]))

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the application's own options."""
        with _safe_usage_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Parse a verb's options and run it."""
        with _safe_usage_errors():
            return super().invoke(ctx)


def _untyped(option: Any) -> Any:
    """Return an option that shows no type; None where there is none."""
    if option is not None:
        option.metavar = ""
    return option


@contextmanager
def _safe_usage_errors() -> Iterator[None]:
    """Make safe what is said of bad options: it repeats them, and Typer prints it itself."""
    try:
        yield
    except USAGE_ERROR as error:
        error.message = safe(error.message)
        raise


app = typer.Typer(
    cls=Verbs,
    help="Test whether an LLM fine-tuning stack trains correctly on this machine.",
    epilog="First steps: docs/tutorial.md. Words: docs/glossary.md. Exit codes: README.md.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

PASSES_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Context settings of a verb that hands unknown arguments to pytest."""

# Typer has a copy of click's, or takes click's own; it names this subclass alone.
USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
TYPERS_USAGE_ERROR = 2
TYPERS_INTERRUPT = 130
CLOSED_PIPE = 128 + signal.SIGPIPE
"""What a shell reports of a Unix tool whose reader has seen enough."""

EnvironmentOption = Annotated[
    str | None,
    typer.Option(
        "--environment",
        "-e",
        metavar="NAME",
        help="Environment, such as cuda; default: cpu, or the project's only one.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON instead of text.")]
StrategyOption = Annotated[
    str,
    typer.Option(
        "--strategy",
        metavar="STRATEGY",
        help="pairs, triples or product, instead of what specs say; pairs@7 with a seed.",
    ),
]
AxisOption = Annotated[
    list[str] | None,
    typer.Option(
        "--axis",
        metavar="AXIS=OPTION",
        help="Only combinations with these options: method=lora,dora. Can be repeated.",
    ),
]


def main() -> None:
    """Run a verb; an error that the user can act on ends it without a traceback."""
    encode_whatever_comes()
    if not _has_folder():
        complain("error: the folder that this was started in is gone; start it in another")
        sys.exit(ExitCode.BAD_INPUT)
    if os.environ.get("NO_COLOR"):
        rich_utils.COLOR_SYSTEM = None
    try:
        code = _run()
        # Python would do it later, and end with a code of its own where it can't.
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EPIPE):
            raise
        code = _unwritten(error)
    sys.exit(code)


def _has_folder() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _run() -> str | int | None:
    """Run a verb, and return what the process ends with."""
    try:
        app()
    except Interrupted as end:
        complain(str(end))
        return end.exit_code
    except TunematrixError as error:
        complain(f"error: {error}")
        return error.exit_code
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        complain("error: a name that was given is too long for a file")
        return ExitCode.BAD_INPUT
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # Typer and Rich make a failure of it
            raise end.__context__ from None
        if end.code == TYPERS_INTERRUPT:
            complain("interrupted; the cells that had finished are recorded")
            return ExitCode.INTERRUPTED
        # Typer ends with 2 after bad options; in pytest 2 means interrupted.
        return ExitCode.BAD_INPUT if end.code == TYPERS_USAGE_ERROR else end.code
    return ExitCode.PASSED


def _unwritten(error: OSError) -> int:
    """Say that there is no room; a reader that has seen enough, such as `head`, needs no word."""
    # What couldn't be written would be tried again, and complained of, as Python ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno == errno.EPIPE:
        return CLOSED_PIPE
    message = f"error: can't write all there is to say: {error.strerror}; make room and try again"
    complain(message)
    return ExitCode.MACHINE


def place(project: Project) -> str:
    """Return the option that names the project; pytest would guess it from where the specs lie.

    Raises:
        BadInput: Python would take something of the project's for pytest.
    """
    for folder in (Path.cwd(), project.root):
        for name in ("pytest.py", "pytest/__init__.py"):
            if (folder / name).exists():
                text = "Python would run this in the place of pytest; call it something else"
                raise BadInput(f"{shown(folder / name)}: {text}")
    if (file := pytest_file(project.root)) is not None:
        return f"--config-file={file}"
    return f"--rootdir={project.root}"
