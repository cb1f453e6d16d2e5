"""Specs with a relation → what must agree at each point; arms that run the same are one cell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tunematrix.matrix.cells import (
    EITHER,
    Cell,
    Exclusion,
    Identity,
    Resolved,
    identity,
    point_id,
    points,
    resolve,
)
from tunematrix.matrix.groups import Groups
from tunematrix.spec.model import Source, Spec
from tunematrix.spec.problems import Problem
from tunematrix.spec.relation import Planted, Relation

PLANTED = "!"
"""Stands before the name of a planted difference, in ids."""
KEEP, KEPT = "meters.tensors", {"gradients", "updates", "parameters", "state"}
"""The setting by which a cell keeps tensors, and what is compared of those."""
OF_NO_CELL = {"test_id", "description", "matrix", "overrides", "relation", "markers"}
"""The fields of a spec that don't decide how a cell is judged, beside failures of relations."""


@dataclass(frozen=True)
class Arm:
    """One of the cells that a relation compares.

    Attributes:
        name: as in the spec; cell: the cell; stage: whose logits it brings.
    """

    name: str
    cell: Cell
    stage: str


@dataclass(frozen=True)
class Related:
    """What must agree at one point of a spec's matrix.

    Attributes:
        id: `test_id[backend-option-option]`.
        spec: the claim.
        axes: every axis to the arms' option, or options.
        arms: the cells; the first is what the others must agree with.
        planted: the difference that one of them holds; None where they must agree.
    """

    id: str
    spec: Spec
    axes: Mapping[str, str] = field(hash=False)
    arms: tuple[Arm, ...]
    planted: Planted | None = None

    @property
    def relation(self) -> Relation:
        """What the spec says of its arms."""
        assert self.spec.relation is not None
        return self.spec.relation

    def with_planted(self, planted: Planted) -> Related:
        """Return this relation with a difference in one arm."""
        arms = tuple(
            replace(arm, cell=_sabotaged(arm.cell, planted)) if arm.name == planted.arm else arm
            for arm in self.arms
        )
        return replace(self, id=f"{self.id}{PLANTED}{planted.name}", arms=arms, planted=planted)

    def sharing(self, cells: Mapping[str, Cell]) -> Related:
        """Return this relation with other cells (by the id of its own) as its arms."""
        arms = tuple(replace(arm, cell=cells.get(arm.cell.id, arm.cell)) for arm in self.arms)
        return replace(self, arms=arms)


def resolve_arms(spec: Spec, groups: Groups) -> tuple[Mapping[str, Resolved], tuple[Problem, ...]]:
    """Look up everything that a spec and its arms name in the configs; and what is wrong there."""
    assert spec.relation is not None
    resolved = {name: resolve(_arm(spec, name), groups) for name in spec.relation.arms}
    told = [_where_written(spec, name, one.problems) for name, one in resolved.items()]
    # What is known to fail need not be known of each arm.
    found = (
        problem
        for problems in told
        for problem in problems
        if problem.route[:1] != ("known_failures",) or all(problem in other for other in told)
    )
    return resolved, tuple(dict.fromkeys(found))


def relate(
    spec: Spec, resolved: Mapping[str, Resolved], groups: Groups, backends: Sequence[str]
) -> Iterator[Related | Exclusion]:
    """Yield what stands at each point where all arms are at home."""
    assert spec.relation is not None
    found: defaultdict[tuple[str, ...], dict[str, Cell | Exclusion]] = defaultdict(dict)
    for name, arm in resolved.items():
        for labels, point in points(arm, groups, backends, arm=name):
            found[labels][name] = point
    for labels, arms in found.items():
        if len(arms) < len(resolved):
            continue
        cells = {n: one.cell if isinstance(one, Exclusion) else one for n, one in arms.items()}
        related = Related(
            id=point_id(spec, labels),
            spec=spec,
            axes=_common([cell.axes for cell in cells.values()]),
            arms=tuple(Arm(n, cell, spec.relation.stage_of(n)) for n, cell in cells.items()),
        )
        noes = ((name, one) for name, one in arms.items() if isinstance(one, Exclusion))
        no = next(noes, None)
        yield related if no is None else _excluded(related, *no)


def alike(related: Related) -> Problem | None:
    """Return what is wrong with a relation two of whose arms would always agree: they are one."""
    seen: dict[tuple[Identity, str], str] = {}
    for arm in related.arms:
        name = seen.setdefault((identity(arm.cell), arm.stage), arm.name)
        if name != arm.name:
            text = f"runs the same as arm {name}, so they always agree; make them differ"
            return related.spec.problem(("relation", "arms", arm.name), text)
    return None


def share(relations: Iterable[Related]) -> tuple[Related, ...]:
    """Let arms that run the same and are judged alike be one cell, whatever spec they stand in."""
    first: dict[tuple[Identity, str], Cell] = {}
    shared = []
    for related in relations:
        cells = {
            arm.cell.id: first.setdefault((identity(arm.cell), _judged_by(arm.cell)), arm.cell)
            for arm in related.arms
        }
        shared.append(related.sharing(cells))
    return tuple(shared)


def _judged_by(cell: Cell) -> str:
    failures = cell.spec.known_failures
    own = tuple(one for one in failures if one.matches(cell.axes) and not one.is_of_relation)
    spec = cell.spec.model_copy(update={"known_failures": own})
    return spec.model_dump_json(exclude=OF_NO_CELL)


def _arm(spec: Spec, name: str) -> Spec:
    """Return the spec of one arm alone; its lines are those of the arm's own entries."""
    assert spec.relation is not None
    own = spec.relation.overrides_of(name)
    lines = dict(spec.source.lines)
    for key in own:
        line = lines.get(("relation", "arms", name, key))
        if line is not None:
            lines["overrides", key] = line
    # What is compared has to be kept.
    kept = {KEEP: True} if KEPT.intersection(spec.relation.compare) else {}
    arm = spec.model_copy(update={"overrides": {**kept, **spec.overrides, **own}})
    return arm.written_in(Source(spec.source.path, lines))


def _where_written(spec: Spec, arm: str, problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """Return problems with an arm's own overrides as problems with the arm."""
    assert spec.relation is not None
    own = {("overrides", key) for key in spec.relation.overrides_of(arm)}
    return tuple(
        replace(problem, route=("relation", "arms", arm, problem.route[1]))
        if problem.route in own
        else problem
        for problem in problems
    )


def _common(axes: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {axis: EITHER.join(dict.fromkeys(one[axis] for one in axes)) for axis in axes[0]}


def _excluded(related: Related, arm: str, no: Exclusion) -> Exclusion:
    # With the options of that arm alone: it is what -m probe tries.
    return replace(no, cell=replace(no.cell, id=related.id), reason=f"arm {arm}: {no.reason}")


def _sabotaged(cell: Cell, planted: Planted) -> Cell:
    return replace(cell, id=f"{cell.id}{PLANTED}{planted.name}", faults=(planted.fault,))
