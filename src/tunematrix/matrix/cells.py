"""Specs and axes → cells and exclusions: where a claim must hold in one environment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from tunematrix.configuration.releases import SPEC
from tunematrix.errors import called, did_you_mean
from tunematrix.matrix.capabilities import No, first_no, is_at_home, of_release
from tunematrix.matrix.choices import Choice, Choices, choose
from tunematrix.matrix.combining import Combined, alone, combine, is_covering, product, varied
from tunematrix.matrix.groups import Groups
from tunematrix.matrix.overrides import ARGUMENTS, changes, override_problems
from tunematrix.spec.model import Spec
from tunematrix.spec.problems import Problem, Route, refuse
from tunematrix.spec.values import Given

Identity: TypeAlias = tuple[tuple[tuple[str, str], ...], tuple[tuple[str, Given], ...]]
"""The axes and the overrides of a cell, each sorted by name."""


def display_id(base_id: str, seed: int | None, planted: str) -> str:
    """Return what a cell or a relation is called: `a[cpu]`, `a[cpu]@3`, `a[cpu]@3!half_rate`.

    Ids are for people and for node ids; no code takes one apart.
    """
    if seed is None and not planted:
        return base_id  # the same text, which many keep
    under = "" if seed is None else f"@{seed}"
    return f"{base_id}{under}!{planted}" if planted else f"{base_id}{under}"


@dataclass(frozen=True)
class Cell:
    """One point of a spec's matrix in one environment.

    Attributes:
        base_id: `test_id[backend-option-option]`, the options of the spec's matrix in its order.
        spec: the claim.
        axes: every axis to its option, defaults included.
        overrides: dotted key to value, for all that differs from its options and cell.yaml.
        faults: sabotages that are entered in it alone.
        seed: the seed it was put under; None where it runs as its spec says.
        planted: name of the fault or of the planted difference in it; empty where there is none.
    """

    base_id: str
    spec: Spec
    axes: Mapping[str, str] = field(hash=False)
    overrides: Mapping[str, Given] = field(hash=False)
    faults: tuple[str, ...] = ()
    seed: int | None = None
    planted: str = ""

    @property
    def id(self) -> str:
        """What it is called: its base id, then its seed and what is planted in it."""
        return display_id(self.base_id, self.seed, self.planted)

    @property
    def place(self) -> Mapping[str, str]:
        """Its axes, and the name of its spec beside them."""
        return {**self.axes, SPEC: self.spec.test_id}

    def sabotaged(self, planted: str, fault: str) -> Cell:
        """Return this cell with a sabotage (MODULE:NAME) that its id shows as `planted`."""
        return replace(self, planted=planted, faults=(fault,))


@dataclass(frozen=True)
class Exclusion:
    """A point of the matrix that is declared unsupported.

    Attributes:
        cell: what it would have been.
        reason: why it isn't run.
        link: where that is documented or tracked; empty when nowhere.
        raises: name of the exception that running it ends with; None when not stated.
        checks: names of the checks that fail when it is run; empty when not stated.
        declared_in: the config file that says so, relative to its root.
    """

    cell: Cell
    reason: str
    link: str
    raises: str | None
    checks: tuple[str, ...]
    declared_in: str


@dataclass(frozen=True)
class Resolved:
    """A spec whose axes and overrides have been looked up in the configs.

    Attributes:
        spec: the spec.
        chosen: the options it takes on every axis.
        problems: what is wrong with it; cells can be made of it only when this is empty.
    """

    spec: Spec
    chosen: Choices
    problems: tuple[Problem, ...]


def resolve(spec: Spec, groups: Groups) -> Resolved:
    """Look up everything that a spec names in the configs."""
    chosen, of_axes = choose(spec, groups)
    problems = [*of_axes, *override_problems(spec, groups, chosen)]
    problems += _without_effect(spec, groups, chosen)
    problems += _known_failure_problems(spec, groups, chosen)
    problems += _same_ids(spec, chosen)
    return Resolved(spec, chosen, tuple(problems))


def expand(
    spec: Spec, groups: Groups, backends: Sequence[str]
) -> tuple[tuple[Cell, ...], tuple[Exclusion, ...]]:
    """Return the cells of a spec in an environment with these backends, and what it excludes.

    Raises:
        BadInput: the spec names what the configs don't have; the text lists all of it.
    """
    resolved = resolve(spec, groups)
    refuse(resolved.problems)
    return split(resolved, groups, backends, combinations([resolved], groups, backends))


def split(
    resolved: Resolved, groups: Groups, backends: Sequence[str], combined: Sequence[Combined] = ()
) -> tuple[tuple[Cell, ...], tuple[Exclusion, ...]]:
    """Return the cells and the exclusions of a spec that has no problems.

    Args:
        combined: what is made of its matrix, where that isn't the whole product.
    """
    both = [point for _, point in points(resolved, groups, backends, combined)]
    cells = tuple(point for point in both if isinstance(point, Cell))
    return cells, tuple(point for point in both if isinstance(point, Exclusion))


def combinations(
    resolved: Sequence[Resolved], groups: Groups, backends: Sequence[str]
) -> tuple[Combined, ...]:
    """Return what is made of a spec's matrix on each backend; nothing if that is the product.

    `resolved` has more than one where the spec is a relation: each of its arms.
    """
    if not is_covering(resolved[0].spec):
        return ()
    return tuple(combine([(one.spec, one.chosen) for one in resolved], groups, backends))


def points(
    resolved: Resolved,
    groups: Groups,
    backends: Sequence[str],
    combined: Sequence[Combined] = (),
    arm: str = "",
) -> Iterator[tuple[tuple[str, ...], Cell | Exclusion]]:
    """Yield the labels of each point of a matrix, and what stands there.

    `arm` ends the ids of cells that are one of several at a point.
    """
    for labels, picked in _picked(resolved, combined):
        backend = picked["backend"].option.name
        axes = groups.with_effect(picked["recipe"].option.name)
        telling = {axis: choice for axis, choice in picked.items() if axis in axes}
        if backend not in backends or not _are_at_home(telling, backend):
            continue
        cell = _cell(resolved.spec, groups, (*labels, arm) if arm else labels, picked)
        no = _first_no(cell, telling) or of_release(groups.known_here.limits, cell.place)
        yield labels, cell if no is None else Exclusion(cell, **vars(no))


def point_id(spec: Spec, labels: Iterable[str]) -> str:
    """Return what a point is called, by the labels of its options."""
    return f"{spec.test_id}[{'-'.join(labels)}]"


def identity(cell: Cell) -> Identity:
    """Return what a cell runs, whatever it is called and however it is judged."""
    return tuple(sorted(cell.axes.items())), tuple(sorted(cell.overrides.items()))


def repeats(cells: Iterable[Cell]) -> tuple[tuple[Cell, ...], ...]:
    """Return the groups of cells that run the same, each in the order given."""
    same: defaultdict[Identity, list[Cell]] = defaultdict(list)
    for cell in cells:
        same[identity(cell)].append(cell)
    return tuple(tuple(group) for group in same.values() if len(group) > 1)


def _picked(
    resolved: Resolved, combined: Sequence[Combined]
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Choice]]]:
    """Yield the labels and the choices of each point, backend outermost."""
    spec, chosen = resolved.spec, resolved.chosen
    axes = varied(spec)
    fixed = {axis: choices[0] for axis, choices in chosen.items() if axis not in axes}
    covering = (point for one in combined for point in one.points)
    for point in covering if is_covering(spec) else product(spec, chosen):
        yield tuple(choice.label for choice in point.values()), {**fixed, **point}


def _cell(spec: Spec, groups: Groups, labels: Sequence[str], picked: Mapping[str, Choice]) -> Cell:
    options = {axis: picked[axis].option for axis in groups.axes}
    overrides: dict[str, Given] = {}
    for axis in options:
        overrides |= picked[axis].overrides
    overrides |= changes(spec, groups, options)
    axes = {axis: option.name for axis, option in options.items()}
    return Cell(point_id(spec, labels), spec, axes, overrides)


def _are_at_home(picked: Mapping[str, Choice], backend: str) -> bool:
    return all(is_at_home(choice.option.declared, backend) for choice in picked.values())


def _first_no(cell: Cell, picked: Mapping[str, Choice]) -> No | None:
    options = (picked[axis].option for axis in cell.axes if axis in picked)
    steps = () if cell.spec.pipeline is None else cell.spec.pipeline.taken
    answers = (first_no(option.file, option.declared, cell.axes, steps) for option in options)
    return next((no for no in answers if no is not None), None)


def _without_effect(spec: Spec, groups: Groups, chosen: Choices) -> Iterator[Problem]:
    """Yield a problem for each axis and setting that the spec's recipe takes no notice of."""
    recipe = next((choice.option.name for choice in chosen["recipe"]), None)
    varies = () if recipe is None else groups.recipe(recipe).varies
    runs_command = recipe is not None and groups.recipe(recipe).runs_command
    for axis in spec.matrix.axes:
        if varies and axis in groups.axes and axis not in varies:
            text = f"has no effect on the recipe {recipe}; remove it, or vary {' or '.join(varies)}"
            yield spec.problem(("matrix", axis), text)
    for key, value in spec.overrides.items():
        is_argument = key.startswith(ARGUMENTS)
        if is_argument and not runs_command:
            text = f"is an argument of a trainer's command, and the recipe is {recipe}; remove it"
            yield spec.problem(("overrides", key), text)
        elif is_argument and isinstance(value, tuple):
            yield spec.problem(("overrides", key), "is a list; an argument has one value")
        elif varies and not is_argument and key.partition(".")[0] not in varies:
            text = f"has no effect on the recipe {recipe}; give its trainer dynamic_args instead"
            yield spec.problem(("overrides", key), text)


def _known_failure_problems(spec: Spec, groups: Groups, chosen: Choices) -> Iterator[Problem]:
    """Yield a problem for each known failure that could never apply to a cell."""
    for index, failure in enumerate(spec.known_failures):
        for axis, wanted in failure.when.items():
            route: Route = ("known_failures", index, "when", axis)
            if axis not in groups.axes:
                text = f"is not an axis; {did_you_mean(axis, groups.axes)}"
                yield spec.problem(route, text)
                continue
            taken = {choice.option.name for choice in chosen[axis]}
            for name in (wanted,) if isinstance(wanted, str) else wanted:
                if name not in groups.axes[axis]:
                    advice = did_you_mean(name, groups.axes[axis])
                    yield spec.problem(
                        route, f"{called(name)} is not an option of {axis}; {advice}"
                    )
                elif name not in taken:
                    text = f"no cell of this spec has {axis} {name}; add it to the matrix"
                    yield spec.problem(route, f"{text}, or remove this")


def _same_ids(spec: Spec, chosen: Choices) -> Iterator[Problem]:
    """Yield a problem if two points share an id: one would overwrite the other."""
    if not all(chosen.values()) or not chosen.keys() >= spec.matrix.axes.keys():
        return
    seen: set[str] = set()
    # Where the product may be too large to go through, options are compared axis by axis.
    axes = {axis: chosen[axis] for axis in varied(spec)}
    for point in alone(axes) if is_covering(spec) else product(spec, chosen):
        name = point_id(spec, (choice.label for choice in point.values()))
        if name in seen:
            text = f"two points are called {name}; rename a folder or split the spec"
            yield spec.problem(("matrix",), text)
            return
        seen.add(name)
