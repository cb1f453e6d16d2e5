"""The verbs `sft`, `dpo`, `finalize`, `generate`, `serve`: a step each, with one's own config."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from tunematrix.cli.app import Verb, app
from tunematrix.configuration.answers import GenerateStep, ServeStep
from tunematrix.configuration.section import Section
from tunematrix.configuration.steps import DpoStep, FinalizeStep, SftStep
from tunematrix.errors import Interrupted
from tunematrix.pipeline.carrying import Wish, carry_step
from tunematrix.pipeline.settings import read_settings
from tunematrix.pipeline.view import StepView
from tunematrix.report.saying import screen

ConfigOption: TypeAlias = Annotated[
    Path, typer.Option("--config", metavar="FILE", help="What to do: YAML; see docs/pipeline.md.")
]
ResumeOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--resume", metavar="PATH", help="Go on from this checkpoint, or from the latest."
    ),
]
DeviceOption: TypeAlias = Annotated[
    str, typer.Option("--device", metavar="NAME", help="cpu, cuda, mps or mlx, whatever FILE says.")
]
DryRunOption: TypeAlias = Annotated[
    bool,
    typer.Option("--dry-run", metavar="", help="Only read and check everything; write nothing."),
]
VerboseOption: TypeAlias = Annotated[
    bool, typer.Option("--verbose", metavar="", help="Also show what the libraries print.")
]
Assignments: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Variables of the config, and overrides such as training.max_steps=100.",
    ),
]

_LEFT = {
    "finalize": "run the same command again",
    "generate": "nothing of it is kept: run the same command again",
    "serve": "the server has ended, too",
}
"""What is left of steps that are interrupted and have no checkpoints."""


@app.command(cls=Verb)
def sft(
    config: ConfigOption,
    assignments: Assignments = None,
    resume: ResumeOption = "",
    device: DeviceOption = "",
    dry_run: DryRunOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Fine-tune a model of your own on a file of texts.

    Saves an adapter, or the whole model, and checkpoints to go on from.

    Example: tunematrix sft --config finetune.yaml tmp_path=/data
    """
    wish = Wish("sft", resume, dry_run)
    _carry(config, SftStep, assignments, device, wish, verbose=verbose)


@app.command(cls=Verb)
def dpo(
    config: ConfigOption,
    assignments: Assignments = None,
    resume: ResumeOption = "",
    device: DeviceOption = "",
    dry_run: DryRunOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Align a model, or what sft saved, on a file of preferences.

    Trains by direct preference optimization (arXiv:2305.18290).

    Example: tunematrix dpo --config align.yaml tmp_path=/data
    """
    wish = Wish("dpo", resume, dry_run)
    _carry(config, DpoStep, assignments, device, wish, verbose=verbose)


@app.command(cls=Verb)
def finalize(
    config: ConfigOption,
    assignments: Assignments = None,
    device: DeviceOption = "",
    dry_run: DryRunOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Merge an adapter, quantize if asked to, and export a whole model.

    Writes a folder that transformers loads by itself. It is loaded
    again, and held layer by layer against the base and the adapter.

    Example: tunematrix finalize --config finalize.yaml tmp_path=/data
    """
    wish = Wish("finalize", dry_run=dry_run)
    _carry(config, FinalizeStep, assignments, device, wish, verbose=verbose)


@app.command(cls=Verb)
def generate(
    config: ConfigOption,
    assignments: Assignments = None,
    device: DeviceOption = "",
    dry_run: DryRunOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Have a model of your own answer prompts, and compare ways to ask it.

    Writes the answers to a file. They are compared one by one and
    together, with a cache and without, with an adapter and without.

    Example: tunematrix generate --config generate.yaml tmp_path=/data
    """
    wish = Wish("generate", dry_run=dry_run)
    _carry(config, GenerateStep, assignments, device, wish, verbose=verbose)


@app.command(cls=Verb)
def serve(
    config: ConfigOption,
    assignments: Assignments = None,
    device: DeviceOption = "",
    dry_run: DryRunOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Serve a model of your own on this machine, and try the server.

    Its answers are held against those of the model itself. An adapter
    is merged first. With stay=true the server stays until Ctrl-C.

    Example: tunematrix serve --config serve.yaml tmp_path=/data
    """
    _carry(config, ServeStep, assignments, device, Wish("serve", dry_run=dry_run), verbose=verbose)


def _carry(
    config: Path,
    model: type[Section],
    assignments: list[str] | None,
    device: str,
    wish: Wish,
    *,
    verbose: bool,
) -> None:
    given = [*(assignments or ()), *([f"device={device}"] if device else [])]
    settings = read_settings(config, model, given)
    try:
        carry_step(settings, wish, StepView(screen()), verbose=verbose)
    except KeyboardInterrupt:
        left = _LEFT.get(wish.name, "checkpoints that were saved are kept: --resume latest goes on")
        raise Interrupted(f"interrupted; {left}") from None
