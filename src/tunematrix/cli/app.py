"""The application that every verb registers with, and the options that several of them have."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tunematrix.errors import ExitCode, TunematrixError
from tunematrix.harness import Setting, pytest_settings

app = typer.Typer(
    help="Prove that a fine-tuning stack works on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

TYPERS_USAGE_ERROR = 2
TYPERS_INTERRUPT = 130

EnvironmentOption = Annotated[str, typer.Option("--environment", "-e", help="Whose cells.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data instead of text.")]
AxisOption = Annotated[
    list[str] | None, typer.Option("--axis", help="AXIS=OPTION; only cells with this option.")
]


def main() -> None:
    """Run a verb; an error that the user can act on ends it without a traceback."""
    try:
        app()
    except TunematrixError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code == TYPERS_INTERRUPT:
            print("interrupted; what had finished is recorded", file=sys.stderr)
            sys.exit(ExitCode.INTERRUPTED)
        # Which means interrupted where pytest is the driver.
        sys.exit(ExitCode.BAD_INPUT if end.code == TYPERS_USAGE_ERROR else end.code)


def place(setting: Setting) -> str:
    """Tell pytest which project this is: it would go by where the specs lie."""
    if pytest_settings(setting.root):
        return f"--config-file={setting.root / 'pyproject.toml'}"
    return f"--rootdir={setting.root}"
