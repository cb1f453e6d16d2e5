"""Entry points of installed distributions → folders with options of an axis.

A plug-in's options are data, read without importing anything of it: its libraries are imported
where its cells run. An entry point names a package with a config folder in it,
`zipq_tunematrix:configs`, or a package that is the config folder, `zipq_tunematrix.configs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path

from tunematrix.entry_points import origin, points_in
from tunematrix.errors import BadInput

AXES = {
    "tunematrix.backends": "backend",
    "tunematrix.quantizers": "quantizer",
    "tunematrix.methods": "method",
    "tunematrix.recipes": "recipe",
}
"""Group of entry points → the axis that it adds options to."""


@dataclass(frozen=True)
class PluginFolder:
    """A config folder of an installed distribution, of which one axis is taken.

    Attributes:
        root: the folder; options are ROOT/AXIS/NAME.yaml.
        axis: the axis that the entry point's group adds to.
        origin: the distribution and its entry point, as messages name them.
    """

    root: Path
    axis: str
    origin: str

    @property
    def folder(self) -> Path:
        """Where the options lie."""
        return self.root / self.axis


def plugin_folders() -> tuple[PluginFolder, ...]:
    """Return the config folders that installed distributions add.

    Raises:
        BadInput: an entry point leads to no package, or to one without such a folder; the text
            lists all that do.
    """
    points = [(point, axis) for group, axis in AXES.items() for point in points_in(group)]
    folders = [PluginFolder(_root(point), axis, origin(point)) for point, axis in points]
    problems = [_problem(folder) for folder in folders if not any(folder.folder.glob("*.yaml"))]
    if problems:
        raise BadInput("\n".join(problems))
    return tuple(folders)


def _problem(folder: PluginFolder) -> str:
    where = f"there is no {folder.axis}/NAME.yaml in {folder.root}"
    advice = f"name a package with a folder {folder.axis}, or uninstall the distribution"
    return f"{folder.origin}: {where}; {advice}"


def _root(point: EntryPoint) -> Path:
    """Return the folder that an entry point names; only the package at its top is looked for.

    Raises:
        BadInput: it names no package.
    """
    module, _, attribute = point.value.partition(":")
    top, *below = module.split(".")
    package = find_spec(top)
    locations = package.submodule_search_locations if package else None
    for location in locations or ():
        if (folder := Path(location, *below)).is_dir():
            return Path(folder, *attribute.split("."))
    what = "is no package" if package else "can't be found"
    advice = "name a package that holds the config folder, or uninstall the distribution"
    raise BadInput(f"{origin(point)}: {module} {what}; {advice}")
