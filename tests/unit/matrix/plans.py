"""Writes the plans that `test_plans.py` holds the suite to: `python -m tests.unit.matrix.plans`.

A line that goes away is a cell, a relation or an exclusion that is no longer there, so each change
of these files wants a reviewer.
"""

from __future__ import annotations

from pathlib import Path

from tunematrix.matrix.plan import Plan, plan
from tunematrix.project import read_project
from tunematrix.spec.loader import load_specs

ROOT = Path(__file__).parents[3]
FOLDER = Path(__file__).parent / "plans"
ENVIRONMENTS = ("cpu", "cuda", "mps", "mlx")


def planned(environment: str) -> Plan:
    """Return the plan of the whole suite in an environment."""
    project = read_project(ROOT, environment)
    return plan(load_specs(project.spec_folders), project.groups, project.environment)


def as_lines(suite: Plan) -> list[str]:
    """Return the id of everything that is planned, a line each, with the arms of relations."""
    lines = [f"cell {cell.id}" for cell in suite.cells]
    for relation in suite.relations:
        arms = ", ".join(arm.cell.id for arm in relation.arms)
        lines.append(f"relation {relation.id} = {arms}")
    lines += [f"unsupported {exclusion.cell.id}" for exclusion in suite.exclusions]
    return lines


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in ENVIRONMENTS:
        text = "\n".join(as_lines(planned(name))) + "\n"
        (FOLDER / f"{name}.txt").write_text(text, encoding="utf-8")
