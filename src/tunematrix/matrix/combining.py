"""A spec's options and what they declare → which of their combinations are points of its matrix."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunematrix.configuration.releases import SPEC
from tunematrix.errors import BadInput
from tunematrix.matrix.capabilities import STEP, is_at_home
from tunematrix.matrix.choices import Choice, Choices
from tunematrix.matrix.covering import Apart, Covering, Lost, cover
from tunematrix.matrix.groups import Groups
from tunematrix.spec.matrix import Strategy
from tunematrix.spec.model import Spec

BACKEND = "backend"
Point = Mapping[str, Choice]
"""The axes that a matrix varies, the backend first, each with one of its choices."""


@dataclass(frozen=True)
class Combined:
    """The combinations of one spec on one backend.

    Attributes:
        spec: the spec. backend: its choice.
        axes: to the choices that are at home there; the backend isn't among them.
        covering: places among those.
    """

    spec: Spec
    backend: Choice
    axes: Mapping[str, Sequence[Choice]]
    covering: Covering

    @property
    def points(self) -> Iterator[Point]:
        """The combinations, in the order of the whole product."""
        for row in self.covering.rows:
            places = zip(self.axes.items(), row, strict=True)
            yield {BACKEND: self.backend} | {axis: some[place] for (axis, some), place in places}

    def labels(self, lost: Lost) -> Mapping[str, str]:
        """Return what options that never meet are called, by their axes."""
        return {axis: self.axes[axis][place].label for axis, place in lost.together}

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data, with the names of options."""
        found = self.covering
        lost = [{"options": dict(self.labels(one)), "reason": one.reason} for one in found.lost]
        return {
            "spec": self.spec.test_id,
            "backend": self.backend.label,
            "strategy": self.spec.matrix.strategy,
            "combinations": len(found.rows),
            "of": found.possible,
            "covered": found.covered,
            "total": found.total,
            "lost": lost,
        }


def combined_by(specs: Iterable[Spec], strategy: str) -> tuple[Spec, ...]:
    """Return specs whose matrices are combined another way; `strategy` is empty for their own.

    Raises:
        BadInput: there is no such strategy.
    """
    if not strategy:
        return tuple(specs)
    try:
        Strategy.parse(strategy)
    except ValueError as error:
        raise BadInput(f"--strategy {error}") from None
    return tuple(
        spec.model_copy(update={"matrix": spec.matrix.combined_by(strategy)}) for spec in specs
    )


def varied(spec: Spec) -> tuple[str, ...]:
    """Return the axes that a spec's matrix varies, the backend outermost."""
    return (BACKEND, *(axis for axis in spec.matrix.axes if axis != BACKEND))


def is_covering(spec: Spec) -> bool:
    """Return whether fewer cells are made of a spec's matrix than there are combinations."""
    return spec.matrix.covers(len(varied(spec)) - 1)


def product(spec: Spec, chosen: Choices) -> Iterator[Point]:
    """Yield each combination of what a spec chooses, with every backend."""
    axes = varied(spec)
    for point in itertools.product(*(chosen[axis] for axis in axes)):
        yield dict(zip(axes, point, strict=True))


def alone(chosen: Choices) -> Iterator[Point]:
    """Yield as few points as have each choice once at least, with the first ones beside it."""
    first = {axis: some[0] for axis, some in chosen.items()}
    yield first
    for axis, some in chosen.items():
        yield from ({**first, axis: choice} for choice in some[1:])


def combine(
    arms: Sequence[tuple[Spec, Choices]], groups: Groups, backends: Iterable[str]
) -> Iterator[Combined]:
    """Yield the combinations on each backend in which as many options meet as the spec asks for.

    Args:
        arms: a spec and what it chooses; of a relation those of each arm, whose matrix is one.
        backends: of the environment.

    Raises:
        MachineProblem: covertable isn't installed.
    """
    spec, chosen = arms[0]
    strategy = Strategy.parse(spec.matrix.strategy)
    for backend in chosen[BACKEND]:
        if backend.option.name not in backends or not _fits(arms, groups, backend):
            continue
        axes = {axis: _at_home(arms, groups, axis, backend) for axis in varied(spec)[1:]}
        if not all(axes.values()):
            continue  # the product has no point there either
        apart = [
            one
            for arm, taken in arms
            for one in _apart(arm, {**taken, **axes, BACKEND: (backend,)}, axes, groups)
        ]
        sizes = {axis: len(some) for axis, some in axes.items()}
        yield Combined(spec, backend, axes, cover(sizes, apart, strategy))


def _fits(arms: Sequence[tuple[Spec, Choices]], groups: Groups, backend: Choice) -> bool:
    """Return whether what isn't varied is at home on a backend."""
    return all(
        is_at_home(taken[axis][0].option.declared, backend.option.name)
        for spec, taken in arms
        for axis in _telling(groups, taken).difference(varied(spec))
    )


def _at_home(
    arms: Sequence[tuple[Spec, Choices]], groups: Groups, axis: str, backend: Choice
) -> tuple[Choice, ...]:
    choices = arms[0][1][axis]
    if all(axis not in _telling(groups, taken) for _, taken in arms):
        return choices
    name = backend.option.name
    return tuple(one for one in choices if is_at_home(one.option.declared, name))


def _telling(groups: Groups, chosen: Choices) -> frozenset[str]:
    """Return the axes that have an effect on the recipe."""
    return groups.with_effect(chosen["recipe"][0].option.name)


def _apart(
    spec: Spec, chosen: Choices, axes: Mapping[str, Sequence[Choice]], groups: Groups
) -> Iterator[Apart]:
    """Yield what declarations keep apart of `chosen`, as places in `axes`."""
    for when, reason in _declared(spec, chosen, groups):
        options: dict[str, frozenset[int]] = {}
        for axis, names in when.items():
            here = frozenset(i for i, one in enumerate(chosen[axis]) if one.option.name in names)
            if not here:
                break
            if axis in axes:
                options[axis] = here
        else:
            yield Apart(options, reason)


def _declared(
    spec: Spec, chosen: Choices, groups: Groups
) -> Iterator[tuple[Mapping[str, frozenset[str]], str]]:
    """Yield what can't stand together: the options of each axis, and the reason."""
    for axis in _telling(groups, chosen):
        for choice in chosen[axis]:
            own = {axis: frozenset([choice.option.name])}
            for when, reason in _refused(spec, choice, chosen):
                yield {**own, **when}, reason
    for limit in groups.known_here.limits:
        if (meant := _of_axes(limit.when, spec)) is not None:
            yield meant, limit.reason


def _refused(
    spec: Spec, choice: Choice, chosen: Choices
) -> Iterator[tuple[Mapping[str, frozenset[str]], str]]:
    """Yield what one option can't stand with."""
    declared, file = choice.option.declared, choice.option.file
    for axis, answers in declared.capabilities.items():
        for name in {one.option.name for one in chosen[axis]}:
            if name not in answers:
                yield {axis: frozenset([name])}, f"{axis} {name} is not declared in {file}"
            elif (refusal := answers[name]) is not None:
                yield {axis: frozenset([name])}, refusal.reason
    for entry in declared.unsupported:
        if (when := _of_axes(entry.when, spec)) is not None:
            yield when, entry.reason


def _of_axes(
    when: Mapping[str, str | tuple[str, ...]], spec: Spec
) -> Mapping[str, frozenset[str]] | None:
    """Return what is said of axes alone; None where the spec isn't meant, or takes no such step."""
    steps = () if spec.pipeline is None else spec.pipeline.taken
    found = {axis: frozenset([w] if isinstance(w, str) else w) for axis, w in when.items()}
    for place, own in ((SPEC, (spec.test_id,)), (STEP, tuple(steps))):
        if place in found and found.pop(place).isdisjoint(own):
            return None
    return found
