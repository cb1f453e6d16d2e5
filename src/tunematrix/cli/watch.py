"""The verb `watch`: any training command, audited from the inside while it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tunematrix.cli.app import JsonOption, Verb, app
from tunematrix.configuration.watch import asked_for
from tunematrix.errors import Interrupted
from tunematrix.report.saying import say_json, show
from tunematrix.watching.carrying import NO_LIMIT, watch_command
from tunematrix.watching.view import passing_on, verdicts


@app.command(
    cls=Verb,
    options_metavar="[OPTIONS] --",
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
)
def watch(
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND", help="What trains, with its arguments.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Where the record and the evidence go; default: .tunematrix/watch.",
        ),
    ] = None,
    timeout: Annotated[
        int | None,
        typer.Option(
            metavar="SECONDS", min=1, help="End the command after this time; default: never."
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            metavar="KIND", help="Fail unless what is trained is on this: cuda, mps, cpu."
        ),
    ] = "",
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", metavar="", help="Fail, not only warn, where the probe itself breaks."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run any training command, and audit what happens inside it.

    Its virtualenv needs no tunematrix, and its code no change. What it
    prints is passed on; the verdicts follow, as errors do, on stderr.

    Example: tunematrix watch -- python train.py --epochs 1
    Example: tunematrix watch -- torchrun --nproc-per-node 2 train.py
    """
    limit, asked = timeout or NO_LIMIT, asked_for(device or None, strict=strict)
    seen = watch_command(command, asked, limit, output, passing_on(to_errors=as_json))
    if as_json:
        say_json(seen.record.to_json())
    else:
        show(verdicts(seen.record, seen.what), sys.stderr)
    if seen.was_interrupted:
        raise Interrupted("interrupted; what was seen until then is judged, and recorded")
    raise typer.Exit(seen.exit_code)
