"""The defaults lists of a config folder as they are written: where they lead, without Hydra."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from tunematrix.inspection.layout import DefaultsEntry
from tunematrix.inspection.tree import HydraTree
from tunematrix.spec.problems import Problem, Route, route_of


def reachable(tree: HydraTree, name: str) -> Iterator[tuple[str, DefaultsEntry]]:
    """Yield each entry of all defaults lists that a file leads to, with the file's name."""
    seen, todo = set[str](), [name]
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        layout = tree.layouts.get(current)
        for entry in (layout.defaults or ()) if layout else ():
            yield current, entry
            todo += entry.targets(PurePosixPath(current).parent)


def circle(tree: HydraTree, name: str) -> Problem | None:
    """Return a problem where defaults lists lead back to where they began."""

    def follow(current: str, way: tuple[str, ...]) -> tuple[str, DefaultsEntry, str] | None:
        layout = tree.layouts.get(current)
        for entry in (layout.defaults or ()) if layout else ():
            for target in entry.targets(PurePosixPath(current).parent):
                if target in (*way, current):
                    begin = (*way, current).index(target)
                    return current, entry, " → ".join([*(*way, current)[begin:], target])
                if found := follow(target, (*way, current)):
                    return found
        return None

    found = follow(name, ())
    if found is None:
        return None
    file, entry, way = found
    text = f"the defaults lists go in a circle: {way}; remove one of these entries"
    return Problem(tree.layouts[file].path, entry.line, ("defaults",), text)


def override_key(name: str, entry: DefaultsEntry) -> str:
    """Return what chooses an option of an entry's group, for an entry of the file `name`."""
    folder = PurePosixPath() if entry.absolute else PurePosixPath(name).parent
    group = str(folder / entry.group)
    return f"{group}@{entry.package}" if entry.package else group


def package_route(package: str | None) -> Route:
    """Return the route that a package puts keys under; none, and `_global_`, are the top."""
    return () if package in (None, "", "_global_") else route_of(str(package))
