"""The verb `upgrade`: what other releases would change."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from tunematrix.cli.app import PASSES_ON, EnvironmentOption, JsonOption, Verb, app, place
from tunematrix.cli.prove import become, prepare_row, row_of
from tunematrix.environments import inherited
from tunematrix.errors import BadInput, NothingTested
from tunematrix.paths import made, shown, state
from tunematrix.project import Project, read_project, spec_place
from tunematrix.proof.releases.released import released_faults
from tunematrix.report.past import ABSENT
from tunematrix.report.saying import complain, say_json, show
from tunematrix.report.writing import STANDARD_OUTPUT, write_whole
from tunematrix.versions.comparison import UpgradeComparison
from tunematrix.versions.comparison_page import comparison_page
from tunematrix.versions.comparison_view import bisect_command, comparison_text
from tunematrix.versions.sets import Beneath, PackageSet, beneath
from tunematrix.versions.trials import Bench
from tunematrix.versions.upgrade import pins_text, read_wish, try_upgrade, upgraded_set

_PIN = re.compile(r"[A-Za-z0-9][\w.-]*(==|>=|<=|~=|<|>)[\w.*,<>=!~-]+")
"""A package with a bound, as nothing that pytest takes looks."""
SMOKE = ("-m", "smoke")
"""What is tried where nobody chooses."""


@app.command(
    cls=Verb,
    options_metavar="[OPTIONS] [PACKAGE[==VERSION]]... [PYTEST_ARGUMENT]...",
    context_settings=PASSES_ON,
)
def upgrade(
    context: typer.Context,
    lock: Annotated[
        str,
        typer.Option(metavar="FILE", help="Upgrade what this requirements.txt or lock names."),
    ] = "",
    python: Annotated[
        str, typer.Option(metavar="PATH", help="Python that the lock is installed for.")
    ] = "",
    markdown: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page for a pull request; -: standard output."),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the new versions as pins, if they are safe."),
    ] = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what newer releases would change: cells, checks, figures, known faults.

    Runs the smoke cells with the versions as they are and as they would
    become. Without a PACKAGE, all that is tested becomes the newest that
    fits. Exit code 0: safe; 1: something breaks; 5: nothing is newer. After the
    packages, other arguments go to pytest: -m "smoke or relation", -k hqq, spec files.

    Example: tunematrix upgrade
    Example: tunematrix upgrade transformers==5.23.0 peft -k lora
    Example: tunematrix upgrade --lock requirements.txt --markdown summary.md
    """
    project = read_project(Path.cwd(), environment)
    if lock or python or (project.environment.is_yours and not _is_within(project)):
        options = {"--markdown": markdown, "--write": write}
        given = [f"{name}={value}" for name, value in options.items() if value is not None]
        _begin_within(project, python, lock, [*given, *["--json"][: int(as_json)], *context.args])
    packages, others = split_arguments(context.args)
    _refuse_packages_among(others, packages)
    below = beneath(project.environment)
    new = upgraded_set([read_wish(one) for one in packages], below, project.root)
    name = project.environment.name
    if not new.over(below.packages):
        raise NothingTested(f"{new.asked}: {name} has them already, so nothing changes")
    comparison = _try(project, below, new, others)
    if markdown is not None:
        write_whole(markdown, comparison_page(comparison, name).encode())
    if as_json:
        say_json(comparison.to_json())
    elif markdown != STANDARD_OUTPUT:
        show(comparison_text(comparison, name))
    if comparison.of("broken") and not _is_within(project):
        complain(f"which release it is: {bisect_command(comparison, name)}")
    if write is not None:
        _write_pins(write, comparison, new, _own(project))
    sys.exit(comparison.exit_code)


def _try(
    project: Project, below: Beneath, new: PackageSet, others: Sequence[str]
) -> UpgradeComparison:
    # Every verb imports this module, and this alone needs pytest.
    from tunematrix.versions.choosing import chosen_points

    points = chosen_points(project, [place(project), *_chosen(project, others)])
    made(state(project.root))
    bench = Bench(project, below, (place(project),), complain)
    faults = released_faults(project.groups, project.environment)
    return try_upgrade(new, points, bench, faults)


def _write_pins(
    file: Path, comparison: UpgradeComparison, new: PackageSet, own: Collection[str]
) -> None:
    """Write the new versions of a user's own packages, and of those that come with them."""
    if not comparison.is_safe:
        complain(f"{shown(file)} wasn't written, since the upgrade isn't safe")
        return
    added = {one.name for one in comparison.versions if one.before == ABSENT}
    write_whole(file, pins_text(new, {*own, *added}).encode())
    if file != STANDARD_OUTPUT:
        complain(f"the new versions are in {shown(file)}")


def _begin_within(project: Project, python: str, lock: str, arguments: Sequence[str]) -> NoReturn:
    """Begin again in a Python that has the user's versions: there, they are as it is."""
    row = row_of(project, python, lock)
    ready = prepare_row(project, row)
    command = [str(ready.python), "-m", "tunematrix", "upgrade", f"--environment={row.name}"]
    become(ready, [*command, *arguments])


def _is_within(project: Project) -> bool:
    """Whether this process is one that was begun again."""
    return Path(sys.prefix).resolve().is_relative_to(project.folder.resolve())


def _own(project: Project) -> set[str]:
    """Return the names of all packages that aren't there for tunematrix alone."""
    folder = project.folder.resolve()
    apart = (folder / "venv", folder / "added")
    places = [one for one in sys.path if one and Path(one).is_dir()]
    own = [one for one in places if not any(Path(one).resolve().is_relative_to(a) for a in apart)]
    return {*inherited.found_in(own)} - {"tunematrix"}


def _chosen(project: Project, others: Sequence[str]) -> list[str]:
    """Return pytest's arguments: the smoke cells of all specs, unless others are named."""
    files = any(Path(spec_place(one).partition("::")[0]).exists() for one in others)
    folders = [] if files else [str(folder) for folder in project.spec_folders]
    return [*(spec_place(one) for one in others or SMOKE), *folders]


def _refuse_packages_among(others: Sequence[str], before: Sequence[str]) -> None:
    """Refuse a package that stands behind an argument of pytest, which would take it for a file.

    Raises:
        BadInput: there is one.
    """
    # What stands behind an option may be its value, which never has a version in it.
    late = [one for one in others if _PIN.fullmatch(one) and not Path(one).exists()]
    if late:
        first = next(one for one in others if one not in late)
        text = f"{' '.join(late)}: packages stand before arguments of pytest, such as {first}"
        rest = [one for one in others if one not in late]
        raise BadInput(f"{text}; write tunematrix upgrade {shlex.join([*before, *late, *rest])}")


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the packages, which stand first, and what is left for pytest."""
    for number, one in enumerate(arguments):
        if one.startswith("-") or "::" in one or Path(spec_place(one)).exists():
            return list(arguments[:number]), list(arguments[number:])
    return list(arguments), []
