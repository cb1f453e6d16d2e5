"""Names of cells, relations or spec files → what of them can be run with a set of packages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tunematrix.command.specs import completed
from tunematrix.command.trainers import read_trainers
from tunematrix.errors import BadInput, nearest
from tunematrix.matrix.cells import Cell
from tunematrix.matrix.plan import Plan, plan
from tunematrix.matrix.relations import Related
from tunematrix.project import Project, spec_place
from tunematrix.results.planned import spec_digest
from tunematrix.spec.loader import load_specs


@dataclass(frozen=True)
class Point:
    """A cell or a relation.

    Attributes:
        node: as pytest takes it: an absolute path, `::`, an id.
        id: of the cell or the relation; arms: ids of the cells that a relation compares.
        excused: names of the checks that its spec knows to fail, in today's releases.
        spec: digest of the spec that judges it.
        place: axis to option or options, and the name of its spec beside them.
    """

    node: str
    id: str
    arms: tuple[str, ...] = ()
    excused: frozenset[str] = frozenset()
    spec: str = ""
    place: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict, hash=False)


def points_of(plan: Plan) -> dict[str, Point]:
    """Return every cell and relation of a plan, by its id."""
    found = {cell.id: _of_cell(cell) for cell in plan.cells}
    return found | {related.id: _of_relation(related) for related in plan.relations}


def find_points(names: Iterable[str], project: Project) -> tuple[Point, ...]:
    """Look up what is named: ids, `FILE::ID` of a spec anywhere, or spec files for all of theirs.

    Raises:
        BadInput: there is no such cell, relation or file.
    """
    found: dict[Point, None] = {}
    for name in names:
        file, colons, id_ = spec_place(name).partition("::")
        is_file = Path(file).is_file()
        planned = _planned([Path(file)] if is_file else project.spec_folders, project)
        there = points_of(planned)
        if is_file and not colons:
            found |= dict.fromkeys(there.values())
            continue
        found[_named(id_ if is_file else name, planned, file if is_file else "")] = None
    return tuple(found)


def _planned(paths: Sequence[Path], project: Project) -> Plan:
    specs = completed(load_specs(paths), read_trainers(project.root), project.root)
    return plan(specs, project.groups, project.environment)


def _named(id_: str, planned: Plan, file: str) -> Point:
    there = points_of(planned)
    if not id_.strip():
        raise BadInput("no cell and no relation is named; tunematrix plan lists all")
    if id_ in there:
        return there[id_]
    for exclusion in planned.exclusions:
        if exclusion.cell.id == id_:
            raise BadInput(f"{id_} is declared unsupported: {exclusion.reason}; name another")
    place = f"in {file} " if file else ""
    message = f"no cell and no relation {place}is called {id_}; tunematrix plan lists all"
    if close := nearest(id_, there):
        message = "\n  ".join([f"{message}; did you mean one of these?", *close])
    raise BadInput(message)


def _of_cell(cell: Cell) -> Point:
    known = (one for one in cell.spec.known_failures if one.matches(cell.axes))
    excused = frozenset(one.check for one in known if one.check and not one.is_of_relation)
    node = f"{cell.spec.source.path}::{cell.id}"
    return Point(node, cell.id, excused=excused, spec=spec_digest(cell.spec), place=cell.place)


def _of_relation(related: Related) -> Point:
    arms = [arm.cell for arm in related.arms]
    excused = frozenset(
        one.check
        for one in related.spec.known_failures
        if one.check and one.is_of_relation and any(one.matches(arm.axes) for arm in arms)
    )
    node, digest = f"{related.spec.source.path}::{related.id}", spec_digest(related.spec)
    return Point(node, related.id, tuple(arm.id for arm in arms), excused, digest, related.place)
