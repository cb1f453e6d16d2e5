"""A plan → the same plan under several seeds."""

from __future__ import annotations

from dataclasses import replace

from tunematrix.matrix.cells import Cell
from tunematrix.matrix.plan import Plan
from tunematrix.matrix.relations import Related

KEY = "train.seed"
SEED = "@"
"""Stands before the seed, in ids."""


def under_seeds(plan: Plan, count: int) -> Plan:
    """Return a plan of every cell and relation under the seeds 0 to `count` - 1.

    Their ids end in `@` and the seed.
    """
    cells: list[Cell] = []
    relations: list[Related] = []
    for seed in range(count):
        seeded = {cell.id: _under(cell, seed) for cell in plan.cells}
        cells += seeded.values()
        relations += [
            replace(related.sharing(seeded), id=f"{related.id}{SEED}{seed}")
            for related in plan.relations
        ]
    return replace(plan, cells=tuple(cells), relations=tuple(relations))


def _under(cell: Cell, seed: int) -> Cell:
    others = (override for override in cell.overrides if not override.startswith(f"{KEY}="))
    return replace(cell, id=f"{cell.id}{SEED}{seed}", overrides=(*others, f"{KEY}={seed}"))
