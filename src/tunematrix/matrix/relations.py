"""Specs with a relation → what must agree at each point; arms that run the same are one cell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tunematrix.configuration.releases import SPEC
from tunematrix.matrix.cells import (
    Cell,
    Exclusion,
    Identity,
    Resolved,
    display_id,
    identity,
    point_id,
    points,
    resolve,
)
from tunematrix.matrix.combining import Combined
from tunematrix.matrix.groups import Groups
from tunematrix.spec.known_failure import KnownFailure
from tunematrix.spec.model import Source, Spec
from tunematrix.spec.problems import Problem
from tunematrix.spec.relation import Planted, Relation

BACKEND, JOINT = "backend", "+"
KEEP, KEPT = "meters.tensors", {"gradients", "updates", "parameters", "state"}
"""The setting by which a cell keeps tensors, and what is compared of those."""
NOT_JUDGED_BY = {"test_id", "description", "matrix", "overrides", "relation", "markers"}
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
        base_id: `test_id[backend-option-option]`.
        spec: the claim.
        axes: every axis to the option of all arms, or to their options where those differ.
        arms: the cells; the first is what the others must agree with.
        difference: what is planted in one of them; None where they must agree.
        seed: the seed that its arms were put under; None where they run as the spec says.
        planted: the name that its id shows of a sabotage in its arms; empty where there is none.
    """

    base_id: str
    spec: Spec
    axes: Mapping[str, str | tuple[str, ...]] = field(hash=False)
    arms: tuple[Arm, ...]
    difference: Planted | None = None
    seed: int | None = None
    planted: str = ""

    @property
    def id(self) -> str:
        """What it is called: its base id, then its seed and what is planted in its arms."""
        return display_id(self.base_id, self.seed, self.planted)

    @property
    def relation(self) -> Relation:
        """What the spec says of its arms."""
        assert self.spec.relation is not None
        return self.spec.relation

    @property
    def place(self) -> Mapping[str, str | tuple[str, ...]]:
        """Its axes, and the name of its spec beside them."""
        return {**self.axes, SPEC: self.spec.test_id}

    def with_planted(self, difference: Planted) -> Related:
        """Return this relation with a difference in one arm."""
        name, fault = difference.name, difference.fault
        arms = tuple(
            replace(arm, cell=arm.cell.sabotaged(name, fault))
            if arm.name == difference.arm
            else arm
            for arm in self.arms
        )
        return replace(self, arms=arms, difference=difference, planted=name)

    def sabotaged(self, planted: str, fault: str) -> Related:
        """Return this relation with a sabotage in all arms, which its id shows as `planted`."""
        cells = {arm.cell.id: arm.cell.sabotaged(planted, fault) for arm in self.arms}
        return replace(self.sharing(cells), planted=planted)

    def sharing(self, cells: Mapping[str, Cell]) -> Related:
        """Return this relation with other cells (by the id of its own) as its arms."""
        arms = tuple(replace(arm, cell=cells.get(arm.cell.id, arm.cell)) for arm in self.arms)
        return replace(self, arms=arms)


def resolve_arms(spec: Spec, groups: Groups) -> tuple[Mapping[str, Resolved], tuple[Problem, ...]]:
    """Look up everything that a spec and its arms name in the configs; and what is wrong there."""
    assert spec.relation is not None
    resolved = {name: resolve(_arm(spec, name), groups) for name in spec.relation.arms}
    by_arm = [_where_written(spec, name, arm.problems) for name, arm in resolved.items()]
    # What is known to fail need not be known of each arm.
    problems = (
        problem
        for of_arm in by_arm
        for problem in of_arm
        if problem.route[:1] != ("known_failures",) or all(problem in other for other in by_arm)
    )
    return resolved, tuple(dict.fromkeys(problems))


def relate(
    spec: Spec,
    resolved: Mapping[str, Resolved],
    groups: Groups,
    backends: Sequence[str],
    combined: Sequence[Combined] = (),
) -> Iterator[Related | Exclusion]:
    """Yield what stands at each point where all arms are at home.

    Args:
        combined: what is made of the spec's matrix, where that isn't the whole product.
    """
    assert spec.relation is not None
    by_labels: defaultdict[tuple[str, ...], dict[str, Cell | Exclusion]] = defaultdict(dict)
    for name, arm in resolved.items():
        for labels, point in points(arm, groups, backends, combined, arm=name):
            # Arms of several backends meet at one point, which is none of these.
            by_labels[labels[1:] if spec.relation.is_across else labels][name] = point
    for rest, arms in by_labels.items():
        if len(arms) < len(resolved):
            continue
        labels = (JOINT.join(spec.relation.across), *rest) if spec.relation.is_across else rest
        cells = {n: arm.cell if isinstance(arm, Exclusion) else arm for n, arm in arms.items()}
        related = Related(
            base_id=point_id(spec, labels),
            spec=spec,
            axes=_common([cell.axes for cell in cells.values()]),
            arms=tuple(Arm(n, cell, spec.relation.stage_of(n)) for n, cell in cells.items()),
        )
        exclusions = ((name, arm) for name, arm in arms.items() if isinstance(arm, Exclusion))
        excluded = next(exclusions, None)
        yield related if excluded is None else _excluded(related, *excluded)


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
    own = tuple(entry for entry in failures if _is_of_cell(entry, cell))
    spec = cell.spec.model_copy(update={"known_failures": own})
    return spec.model_dump_json(exclude=NOT_JUDGED_BY)


def _is_of_cell(failure: KnownFailure, cell: Cell) -> bool:
    return failure.matches(cell.axes) and not failure.is_of_relation


def _arm(spec: Spec, name: str) -> Spec:
    """Return the spec of one arm alone; its lines are those of the arm's own entries."""
    assert spec.relation is not None
    own = dict(spec.relation.overrides_of(name))
    matrix = spec.matrix.on(str(own.pop(BACKEND))) if BACKEND in own else spec.matrix
    lines = dict(spec.source.lines)
    for key in own:
        line = lines.get(("relation", "arms", name, key))
        if line is not None:
            lines["overrides", key] = line
    # What is compared has to be kept.
    kept = {KEEP: True} if KEPT.intersection(spec.relation.compare) else {}
    overrides = {**kept, **spec.overrides, **own}
    arm = spec.model_copy(update={"overrides": overrides, "matrix": matrix})
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


def _common(by_arm: Sequence[Mapping[str, str]]) -> dict[str, str | tuple[str, ...]]:
    """Return each axis with the arms' option, or with their options in order of appearance."""
    options = {axis: tuple(dict.fromkeys(axes[axis] for axes in by_arm)) for axis in by_arm[0]}
    return {axis: names[0] if len(names) == 1 else names for axis, names in options.items()}


def _excluded(related: Related, arm: str, exclusion: Exclusion) -> Exclusion:
    # With the options of that arm alone: it is what -m probe tries.
    cell = replace(exclusion.cell, base_id=related.base_id)
    return replace(exclusion, cell=cell, reason=f"arm {arm}: {exclusion.reason}")
