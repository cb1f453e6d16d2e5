"""The verb `soak`: which outcomes a seed changes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.plugin.conftest import Project


def test_an_outcome_that_a_seed_changes(project: Project) -> None:
    """With the seeds of either, for a recipe of one's own too; what doesn't train isn't run."""
    target = "{_target_: tiny_recipes.depend_on_the_seed, _partial_: true}"
    project.option("recipe", "own", f"owes: [base, training]\nimplementation: {target}\n")
    project.option("quantizer", "plain", "theory: {}\n")
    project.spec("mine", "own")
    project.spec("other", "succeed")
    run = project.tunematrix("soak", "3", "-e", "plain")
    assert run.code == 1, run.text
    assert "3 runs of 1 cells and relations, 3 seeds: 1 outcome changed" in run.text
    assert "other[" not in run.text
    found = json.loads((project.root / ".tunematrix/soak.json").read_text())
    assert found["changed"] == {"mine[plain-plain]": {"failed": ["0", "1"], "error": ["2"]}}
