"""`releases.yaml` of the config folders → what is known of the releases that are installed here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import ValidationError

from tunematrix.configuration.releases import SPEC, Installed, OfReleases, ReleaseTable, covers
from tunematrix.errors import called, did_you_mean
from tunematrix.spec.explain import explained
from tunematrix.spec.problems import Problem, refuse
from tunematrix.spec.yaml_tree import Tree, read_tree

FILE = "releases.yaml"
"""In a config folder."""


@dataclass(frozen=True)
class ReleaseFile:
    """A file of what is known of releases.

    Attributes:
        tree: with the line of each entry; table: what it says.
    """

    tree: Tree
    table: ReleaseTable

    def entries(self) -> Iterator[tuple[str, int, OfReleases]]:
        """Yield each entry with its section and its place there."""
        for section in ("faults", "limits"):
            for index, entry in enumerate(getattr(self.table, section)):
                yield section, index, entry


def read_release_files(roots: Sequence[Path]) -> tuple[ReleaseFile, ...]:
    """Read the file of each config folder that has one.

    Raises:
        BadInput: something is wrong in them; the text lists all of it.
    """
    return tuple(_read(root / FILE) for root in roots if (root / FILE).is_file())


def _read(path: Path) -> ReleaseFile:
    tree = read_tree(path)
    refuse(tree.problems)
    try:
        return ReleaseFile(tree, ReleaseTable.model_validate(tree.data))
    except ValidationError as error:
        refuse(explained(tree, ReleaseTable, error))
        raise


def release_problems(
    files: Sequence[ReleaseFile], axes: Mapping[str, Mapping[str, object]]
) -> Iterator[Problem]:
    """Yield a problem for each axis and each option of `when` that there isn't."""
    for file in files:
        for section, index, entry in file.entries():
            for axis, wanted in entry.when.items():
                route = (section, index, "when", axis)
                if axis == SPEC:
                    continue
                if axis not in axes:
                    text = f"is not an axis; {did_you_mean(axis, [*axes, SPEC])}"
                    yield file.tree.problem(route, text)
                    continue
                for name in (wanted,) if isinstance(wanted, str) else wanted:
                    if name not in axes[axis]:
                        advice = did_you_mean(name, axes[axis])
                        yield file.tree.problem(route, f"{called(name)} is not an option; {advice}")


def narrowed(files: Sequence[ReleaseFile], installed: Installed) -> ReleaseTable:
    """Return what is known of the releases that `installed` tells of."""
    return ReleaseTable(
        faults=tuple(
            one for file in files for one in file.table.faults if covers(one.releases, installed)
        ),
        limits=tuple(
            one for file in files for one in file.table.limits if covers(one.releases, installed)
        ),
    )


@cache
def version_here(name: str) -> str | None:
    """Return the version of a distribution in this Python, which cells run in; None without it."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
