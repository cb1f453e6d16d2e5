"""The verb `init`: a project of one's own."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tunematrix.cli.app import Verb, app
from tunematrix.environments.host import refusal, this_machine
from tunematrix.environments.origin import Origin
from tunematrix.environments.table import Environment, read_environments
from tunematrix.paths import shown
from tunematrix.report.saying import say
from tunematrix.scaffold.changes import FileChange
from tunematrix.scaffold.project import changes
from tunematrix.scaffold.workflow import is_hosted, workflow_change


@app.command(cls=Verb)
def init(
    environments: Annotated[
        str,
        typer.Option(
            "--environments",
            metavar="NAME,NAME",
            help="Environments of the project: cpu, cuda, mps, mlx; default: all.",
        ),
    ] = "",
    ci: Annotated[
        bool,
        typer.Option("--ci", metavar="", help="Also write a workflow for GitHub Actions."),
    ] = False,
) -> None:
    """Make this folder a project whose environments Nox builds and tests.

    In an empty folder or an existing project. Files that are there are
    never overwritten; what you have to add to them yourself is shown.

    Example: tunematrix init --environments cpu,mlx --ci
    """
    root = Path.cwd()
    chosen = [name.strip() for name in environments.split(",") if name.strip()]
    if (root / "pyproject.toml").is_file():
        read_environments(root, [])  # what is wrong with its table is said before anything changes
    made = changes(root, chosen)
    for change in made:
        change.apply()
    rows = [row for row in read_environments(root, []).values() if row.variant == "locked"]
    if ci:
        requirement, doubtful = Origin().public
        made.append(workflow_change(root, rows, requirement))
        made[-1].apply()
        notes = _about_ci(rows, requirement, doubtful)
    else:
        notes = []
    by_hand = any(change.by_hand for change in made)
    say("\n".join([*_account(made), *notes, *_next(rows, by_hand=by_hand)]))


def _account(made: Sequence[FileChange]) -> list[str]:
    """Return a line for each file, and below it the lines that are left to its owner."""
    lines = []
    width = max(len(shown(change.path)) for change in made)
    for change in made:
        lines.append(f"{change.deed:8}  {shown(change.path):{width}}  {change.about}")
        if change.by_hand:
            lines += ["", *(f"    {line}".rstrip() for line in change.by_hand), ""]
    return lines


def _about_ci(rows: Sequence[Environment], requirement: str, doubtful: str) -> list[str]:
    """Return what the workflow's owner has to see to."""
    lines = []
    if own := [row for row in rows if not is_hosted(row)]:
        labels = "; ".join(f"{row.name}: {', '.join(row.runs_on or (row.name,))}" for row in own)
        lines += ["", f"The workflow needs machines of your own with these labels: {labels}."]
    if doubtful:
        text = f"This tunematrix came from {doubtful}; the workflow installs {requirement}."
        lines += ["", text, "If that isn't the same, change TUNEMATRIX in the workflow."]
    return lines


def _next(rows: Sequence[Environment], *, by_hand: bool) -> list[str]:
    """Return the first steps from here, on this machine, after what has to be done by hand."""
    machine = this_machine(row.host for row in rows)
    able = next((row.name for row in rows if refusal(row.host, machine) is None), "")
    steps = [("nox -l", "list the environments")]
    if importlib.util.find_spec("nox") is None:
        steps.insert(0, ('python -m pip install "nox[uv]"', "install Nox beside tunematrix"))
    if able:
        built = f"build {able}, which takes minutes the first time, and run its fastest cells"
        steps.append((f"nox -s {able} -- -m smoke", built))
    steps.append(("tunematrix doctor", "see what this machine can do, and why not more"))
    width = max(len(command) for command, _ in steps)
    head = "Next, with the lines above in their places:" if by_hand else "Next:"
    return ["", head, *(f"  {command:{width}}  {what}" for command, what in steps)]
