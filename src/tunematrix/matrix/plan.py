"""Specs and an environment → the plan: every cell that would run, and every exclusion."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunematrix.configuration.download import network_needed
from tunematrix.environments.table import Environment
from tunematrix.errors import BadInput, did_you_mean
from tunematrix.matrix.cells import Cell, Exclusion, combinations, repeats, resolve, split
from tunematrix.matrix.combining import Combined
from tunematrix.matrix.groups import Groups
from tunematrix.matrix.relations import Related, alike, relate, resolve_arms, share
from tunematrix.matrix.select import EVERYTHING, Selection
from tunematrix.paths import shown
from tunematrix.spec.model import Spec
from tunematrix.spec.problems import refuse


@dataclass(frozen=True)
class Plan:
    """What would run in one environment, and what is declared not to.

    Attributes:
        cells: in the order of specs and of their matrices, arms of relations at the end.
        exclusions: in the same order; those of relations among them.
        environment: where.
        relations: in the order of specs and of their matrices.
        combined: of each spec whose matrix isn't the whole product, what was made of it.
    """

    cells: tuple[Cell, ...]
    exclusions: tuple[Exclusion, ...]
    environment: Environment
    relations: tuple[Related, ...] = ()
    combined: tuple[Combined, ...] = ()

    @property
    def markers(self) -> tuple[str, ...]:
        """The markers of all specs that are planned, sorted."""
        specs = [
            *(cell.spec for cell in self.cells),
            *(exclusion.cell.spec for exclusion in self.exclusions),
            *(related.spec for related in self.relations),
        ]
        return tuple(sorted({marker for spec in specs for marker in spec.markers}))

    def by_file(self) -> dict[Path | None, Plan]:
        """Return the plan of each spec file that plans anything, in the same orders."""
        cells = defaultdict[Path | None, list[Cell]](list)
        exclusions = defaultdict[Path | None, list[Exclusion]](list)
        relations = defaultdict[Path | None, list[Related]](list)
        for cell in self.cells:
            cells[cell.spec.source.path].append(cell)
        for exclusion in self.exclusions:
            exclusions[exclusion.cell.spec.source.path].append(exclusion)
        for related in self.relations:
            relations[related.spec.source.path].append(related)
        return {
            path: replace(
                self,
                cells=tuple(cells[path]),
                exclusions=tuple(exclusions[path]),
                relations=tuple(relations[path]),
            )
            for path in {**cells, **exclusions, **relations}
        }

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain data, with cells that run the same named in `repeats`."""
        return {
            "environment": self.environment.name,
            "backends": list(self.environment.backends),
            "cells": [_cell_as_json(cell) for cell in self.cells],
            "exclusions": [
                {
                    **_cell_as_json(exclusion.cell),
                    "reason": exclusion.reason,
                    "link": exclusion.link,
                    "raises": exclusion.raises,
                    "checks": list(exclusion.checks),
                    "declared_in": exclusion.declared_in,
                }
                for exclusion in self.exclusions
            ],
            "relations": [
                {
                    **_as_json(related),
                    "arms": {arm.name: arm.cell.id for arm in related.arms},
                    "compare": list(related.relation.compare),
                }
                for related in self.relations
            ],
            "repeats": [[cell.id for cell in same] for same in repeats(self.cells)],
            "combined": [one.to_json() for one in self.combined],
        }


def plan(
    specs: Sequence[Spec],
    groups: Groups,
    environment: Environment,
    selection: Selection = EVERYTHING,
) -> Plan:
    """Return the plan of some specs in an environment; it is empty when nothing is selected.

    Raises:
        BadInput: a spec names what the configs don't have, or the environment has a backend
            without a config; the text lists all that is wrong in all specs.
    """
    check_backends(environment, groups)
    plain = [resolve(spec, groups) for spec in specs if spec.relation is None]
    relating = [(spec, *resolve_arms(spec, groups)) for spec in specs if spec.relation is not None]
    by_spec = [*(entry.problems for entry in plain), *(problems for _, _, problems in relating)]
    refuse(problem for problems in by_spec for problem in problems)
    of_plain = [combinations([entry], groups, environment.backends) for entry in plain]
    of_relations = [
        combinations(tuple(arms.values()), groups, environment.backends) for _, arms, _ in relating
    ]
    parts = [
        split(entry, groups, environment.backends, combined)
        for entry, combined in zip(plain, of_plain, strict=True)
    ]
    cells = [cell for of_spec, _ in parts for cell in of_spec if selection(cell)]
    exclusions = [exclusion for _, of_spec in parts for exclusion in of_spec]
    at_points = [
        point
        for (spec, arms, _), combined in zip(relating, of_relations, strict=True)
        for point in relate(spec, arms, groups, environment.backends, combined)
    ]
    exclusions += [point for point in at_points if isinstance(point, Exclusion)]
    relations = [point for point in at_points if isinstance(point, Related)]
    refuse(problem for problem in map(alike, relations) if problem)
    shared = share(
        related for related in relations if any(selection(arm.cell) for arm in related.arms)
    )
    cells += dict.fromkeys(arm.cell for related in shared for arm in related.arms)
    chosen = tuple(exclusion for exclusion in exclusions if selection(exclusion.cell))
    covering = tuple(one for of_spec in (*of_plain, *of_relations) for one in of_spec)
    return Plan(tuple(cells), chosen, environment, shared, covering)


def check_backends(environment: Environment, groups: Groups) -> None:
    """See that each backend of an environment has a config.

    Raises:
        BadInput: one has none.
    """
    for backend in environment.backends:
        if backend not in groups.axes["backend"]:
            advice = did_you_mean(backend, groups.axes["backend"])
            raise BadInput(
                f"environment {environment.name}: there is no backend/{backend}.yaml; {advice}"
            )


def _cell_as_json(cell: Cell) -> dict[str, Any]:
    return {
        **_as_json(cell),
        "overrides": dict(cell.overrides),
        "gpu_requirement": cell.spec.gpu_requirement,
        "timeout": cell.spec.timeout,
        "network": network(cell),
    }


def network(cell: Cell) -> str | None:
    """Return the address beyond this machine that a cell asks; None where it asks none."""
    steps = cell.spec.pipeline
    fetches = steps is not None and steps.download is not None
    return network_needed(os.environ) if fetches else None


def _option_as_json(option: str | tuple[str, ...]) -> str | list[str]:
    return option if isinstance(option, str) else list(option)


def _as_json(planned: Cell | Related) -> dict[str, Any]:
    source = planned.spec.source.path
    return {
        "id": planned.id,
        "spec": planned.spec.test_id,
        "file": None if source is None else shown(source),
        "axes": {axis: _option_as_json(option) for axis, option in planned.axes.items()},
        "markers": list(planned.spec.markers),
    }
