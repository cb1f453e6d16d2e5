"""The verb `download`: a model's files, from the Hugging Face Hub to a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunematrix.cli.app import Verb, app
from tunematrix.configuration.download import DownloadConfig
from tunematrix.errors import Interrupted
from tunematrix.pipeline.download.step import download as run_step
from tunematrix.pipeline.download.view import DownloadView
from tunematrix.pipeline.settings import read_settings
from tunematrix.report.saying import screen


@app.command(cls=Verb)
def download(
    config: Annotated[
        Path, typer.Option("--config", metavar="FILE", help="What to download, and to where: YAML.")
    ],
    assignments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Variables of the config, and overrides such as models.0.revision=main.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", metavar="", help="List the files with their sizes; write none."),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", metavar="", help="Also show what huggingface_hub logs.")
    ] = False,
) -> None:
    """Download a model's files from the Hugging Face Hub, and check them.

    Goes on where an earlier run ended. The token is taken from the
    environment. docs/pipeline.md has a config and all messages.

    Example: tunematrix download --config download.yaml tmp_path=/data
    """
    settings = read_settings(config, DownloadConfig, assignments or ())
    try:
        run_step(settings, DownloadView(screen()), dry_run=dry_run, verbose=verbose)
    except KeyboardInterrupt:
        text = "interrupted; what was fetched is kept, and the same command goes on from there"
        raise Interrupted(text) from None
