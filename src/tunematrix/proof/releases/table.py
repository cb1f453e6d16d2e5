"""The table of regressions: `regressions/table.yaml` of the config folders → frozen rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    BeforeValidator,
    Field,
    Strict,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from tunematrix.checks.vocabulary import unknown_check
from tunematrix.configuration.releases import Distribution, FaultOfReleases, Version
from tunematrix.configuration.section import Names, NonEmpty, Section
from tunematrix.environments.table import Environment
from tunematrix.errors import BadInput, did_you_mean
from tunematrix.matrix.groups import Groups
from tunematrix.matrix.plan import plan
from tunematrix.paths import shown
from tunematrix.spec.explain import explained
from tunematrix.spec.loader import load_specs
from tunematrix.spec.problems import Problem, refuse
from tunematrix.spec.values import Link
from tunematrix.spec.yaml_tree import Tree, read_tree
from tunematrix.versions.overlays import Pins
from tunematrix.versions.points import Point, points_of

FILE = "regressions/table.yaml"
"""Below a config folder."""
NONE = "none"
"""Stands where no release is fixed."""

Releases = Mapping[Distribution, Version]
"""Distribution to its one version, as a table has them."""


class Symptom(Section):
    """How the faulty side has to fail."""

    check: NonEmpty | None = Field(None, description="Name of the check that fails on a figure.")
    lacks: NonEmpty | None = Field(None, description="Name of the check that has nothing to read.")
    raises: NonEmpty | None = Field(None, description="Name of the exception, or of a base.")
    phase: NonEmpty | None = Field(None, description="Phase that raises it: attach, train, …")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [key for key in type(self).model_fields if getattr(self, key)]
        if given in (["check"], ["lacks"], ["raises", "phase"]):
            return self
        text = "give check alone, or lacks alone, or raises and phase together"
        raise PydanticCustomError("not_one_way", text)

    def __str__(self) -> str:
        return self.named or f"{self.raises} in {self.phase}"

    @property
    def named(self) -> str:
        """The check that has to fail, on a figure or for want of one; empty for an exception."""
        return self.check or self.lacks or ""


class Row(Section):
    """One regression: what it was, the releases on both sides of it, and what must notice."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    link: Link
    shows: NonEmpty
    bundles: Names = ()
    faulty: Releases
    fixed: Annotated[
        Releases | None, BeforeValidator(lambda given: None if given == NONE else given)
    ]
    cells: Annotated[Names, Field(min_length=1)]
    control: Names = ()
    expected: Symptom


class Table(Section):
    """Rows, and bundles of pins that several of them share."""

    bundles: Mapping[NonEmpty, Releases] = {}
    rows: Annotated[tuple[Row, ...], Strict(False), Field(min_length=1)]


@dataclass(frozen=True)
class Regression:
    """A row with everything that it names looked up.

    Attributes:
        row: as it is written.
        faulty: all pins of that side, bundles included; none: the environment as it is.
        fixed: those of the other side; None where no release is fixed.
        cells: what must fail; control: what must pass beside it.
        known: faults of releases that either side may have besides.
    """

    row: Row
    faulty: Pins
    fixed: Pins | None
    cells: tuple[Point, ...]
    control: tuple[Point, ...]
    known: tuple[FaultOfReleases, ...] = ()


def read_regressions(
    groups: Groups, environment: Environment, wanted: Sequence[str] = ()
) -> tuple[Regression, ...]:
    """Read the table of the project, or the shipped one where it has none of its own.

    Args:
        groups: the config groups, whose folders may hold a table.
        environment: whose cells the rows name.
        wanted: ids of the rows to read; all if none is named.

    Raises:
        BadInput: something in them is wrong, or no row is called so; the text says where.
    """
    tree, table = _table(groups)
    known = tuple(one for file in groups.releases for one in file.table.faults)
    names = [row.id for row in table.rows]
    for name in wanted:
        if name not in names:
            raise BadInput(f"no regression is called {name}; {did_you_mean(name, names)}")
    chosen = {place: row for place, row in enumerate(table.rows) if not wanted or row.id in wanted}
    points = _points(tree, chosen, groups, environment)
    return tuple(
        Regression(
            row,
            _pins(table, row, row.faulty),
            None if row.fixed is None else _pins(table, row, row.fixed),
            tuple(points[node] for node in row.cells),
            tuple(points[node] for node in row.control),
            known,
        )
        for row in chosen.values()
    )


def read_rows(groups: Groups) -> tuple[tuple[Row, Pins, Pins | None], ...]:
    """Read the rows of the table, each with all pins of its faulty and of its fixed side.

    Raises:
        BadInput: something in it is wrong; the text says where.
    """
    _, table = _table(groups)
    return tuple(
        (row, _pins(table, row, row.faulty), row.fixed and _pins(table, row, row.fixed))
        for row in table.rows
    )


def _table(groups: Groups) -> tuple[Tree, Table]:
    """Read the project's table, or else the shipped one."""
    tables = read_tables(groups)
    refuse(problem for tree, table in tables for problem in _check_problems(tree, table))
    tree, table = tables[-1]
    refuse(_problems(tree, table))
    return tree, table


def read_tables(groups: Groups) -> Sequence[tuple[Tree, Table]]:
    """Return the tables of all config folders, the shipped one first, each as its file has it.

    Raises:
        BadInput: there is none, or one is malformed.
    """
    files = [root / FILE for root in groups.roots if (root / FILE).is_file()]
    if not files:
        folders = ", ".join(shown(root) for root in groups.roots)
        raise BadInput(f"there is no {FILE} in {folders}; docs/regressions.md says what it holds")
    return [_read(file) for file in files]


def _read(file: Path) -> tuple[Tree, Table]:
    tree = read_tree(file)
    refuse(tree.problems)
    try:
        return tree, Table.model_validate(tree.data)
    except ValidationError as error:
        refuse(explained(tree, Table, error))
        raise


def _pins(table: Table, row: Row, own: Pins) -> Pins:
    """Return a side's pins; one that pins nothing is the environment as it is."""
    bundled = {n: v for name in row.bundles for n, v in table.bundles[name].items()}
    return {**bundled, **own} if own else {}


def _problems(tree: Tree, table: Table) -> Iterator[Problem]:
    names = [row.id for row in table.rows]
    for index, row in enumerate(table.rows):
        if row.id in names[:index]:
            yield tree.problem(("rows", index, "id"), f"{row.id} is there twice; rename one")
        for place, name in enumerate(row.bundles):
            if name not in table.bundles:
                text = f"{name} is not a bundle; {did_you_mean(name, table.bundles)}"
                yield tree.problem(("rows", index, "bundles", place), text)
        if row.fixed is None and not row.control:
            text = "needs control: without a fixed release, only a cell that passes shows that the"
            yield tree.problem(("rows", index, "fixed"), f"{text} others fail of this; name one")
        if row.fixed == row.faulty:
            yield tree.problem(("rows", index, "fixed"), "is the same as faulty; make them differ")
        for key in ("cells", "control"):
            for place, node in enumerate(getattr(row, key)):
                path = tree.path.parent / node.partition("::")[0]
                if "::" not in node or not path.is_file():
                    text = f"{node} names no cell; write FILE::ID, FILE relative to this one"
                    yield tree.problem(("rows", index, key, place), text)


def _check_problems(tree: Tree, table: Table) -> Iterator[Problem]:
    """Yield a problem for each name that no check has."""
    for index, row in enumerate(table.rows):
        if row.expected.named and (text := unknown_check(row.expected.named)):
            key = "check" if row.expected.check else "lacks"
            yield tree.problem(("rows", index, "expected", key), text)


def _points(
    tree: Tree, rows: Mapping[int, Row], groups: Groups, environment: Environment
) -> Mapping[str, Point]:
    """Look up every cell and relation that rows name, by the names they give them."""
    named = {
        node: ("rows", index, key, place)
        for index, row in rows.items()
        for key in ("cells", "control")
        for place, node in enumerate(getattr(row, key))
    }
    found: dict[str, Point] = {}
    problems = []
    for file in dict.fromkeys(node.partition("::")[0] for node in named):
        path = (tree.path.parent / file).resolve()
        planned = plan(load_specs([path]), groups, environment)
        there = points_of(planned)
        for node, route in named.items():
            if node.startswith(f"{file}::"):
                name = node.partition("::")[2]
                if name in there:
                    found[node] = there[name]
                else:
                    text = f"{shown(path)} plans no {name}; {did_you_mean(name, there)}"
                    problems.append(tree.problem(route, text))
    refuse(problems)
    return found
