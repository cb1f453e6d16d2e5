"""The verb `wheels`: what a machine without a network needs, to be tested there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tunematrix.cli.app import EnvironmentOption, Verb, app
from tunematrix.environments.origin import Origin
from tunematrix.environments.prove_offline import SCRIPT
from tunematrix.environments.wheels import LIMIT_MB, Collection, Target, collect, read_have
from tunematrix.errors import BadInput, counted, did_you_mean
from tunematrix.paths import shown
from tunematrix.project import read_project
from tunematrix.report.saying import complain

_MB = 1_000_000
_LARGEST = 4


@app.command(cls=Verb)
def wheels(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the wheels go.")],
    have: Annotated[
        Path,
        typer.Option(metavar="FILE", help="`pip list --format=freeze` of the other machine."),
    ],
    python: Annotated[
        str, typer.Option("--python-version", metavar="VERSION", help="Its Python, such as 3.12.")
    ] = "{}.{}".format(*sys.version_info),
    platform: Annotated[
        str, typer.Option(metavar="NAME", help="Its platform, as uv names it.")
    ] = "x86_64-manylinux_2_28",
    extra: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Libraries to test too: hqq, torchao. Can be repeated."),
    ] = None,
    environment: EnvironmentOption = None,
) -> None:
    """Collect what a machine without a network lacks to run the suite.

    Run it where there is a network. Carry the folder to the other machine;
    there, `python3 FOLDER/prove.py` runs the suite over the packages that it
    has, with the arguments of `tunematrix prove`.

    Example: tunematrix wheels wheels --have have.txt --python-version 3.12
    Example: tunematrix wheels wheels --have have.txt -e cuda --extra torchao
    """
    row = read_project(Path.cwd(), environment).environment
    engines = [one for one in ("torch", "mlx") if one in row.extras]
    for name in extra or ():
        if name not in row.extras:
            raise BadInput(f"--extra {name}: not of {row.name}; {did_you_mean(name, row.extras)}")
    target = Target(python, platform, read_have(have))
    extras = tuple(dict.fromkeys([*engines, *(extra or ())]))
    files = collect(Collection(folder, target, extras, Origin()), complain)
    size = sum(file.stat().st_size for file in files) / _MB
    complain(f"{counted(len(files), 'wheel')}, {size:.1f} MB in all, in {shown(folder)}")
    complain("Largest: " + ", ".join(f"{f.name.split('-')[0]} {_mb(f)}" for f in files[:_LARGEST]))
    complain(f"Carry the folder over, and run: python{python} {folder.name}/{SCRIPT} -e {row.name}")
    if size > LIMIT_MB:
        text = f"warning: it is larger than {LIMIT_MB} MB, which may be too large to be carried"
        advice = f"leave an --extra out, or install the largest there and list it in {have}"
        complain(f"{text}; {advice}")


def _mb(file: Path) -> str:
    return f"{file.stat().st_size / _MB:.1f} MB"
