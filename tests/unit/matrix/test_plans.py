from __future__ import annotations

import pytest
from tests.unit.matrix.plans import ENVIRONMENTS, FOLDER, as_lines, planned


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_plan_is_the_reviewed_one(environment: str) -> None:
    """Not one cell, relation or exclusion comes or goes without a line that somebody has read."""
    reviewed = (FOLDER / f"{environment}.txt").read_text(encoding="utf-8").splitlines()
    found = as_lines(planned(environment))
    assert sorted(found) == sorted(reviewed), "python -m tests.unit.matrix.plans writes them anew"
