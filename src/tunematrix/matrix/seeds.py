"""A plan → the same plan under several seeds."""

from __future__ import annotations

from dataclasses import replace

from tunematrix.matrix.cells import Cell
from tunematrix.matrix.plan import Plan
from tunematrix.matrix.relations import Related

KEY = "train.seed"


def under_seeds(plan: Plan, count: int) -> Plan:
    """Return a plan of every cell and relation under the seeds 0 to `count` - 1.

    Each shows its seed in its id.
    """
    cells: list[Cell] = []
    relations: list[Related] = []
    for seed in range(count):
        seeded = {cell.id: _under(cell, seed) for cell in plan.cells}
        cells += seeded.values()
        relations += [replace(related.sharing(seeded), seed=seed) for related in plan.relations]
    return replace(plan, cells=tuple(cells), relations=tuple(relations))


def _under(cell: Cell, seed: int) -> Cell:
    return replace(cell, seed=seed, overrides={**cell.overrides, KEY: seed})
