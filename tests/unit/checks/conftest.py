"""Runs that several files of tests judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.unit.watched import honest_process

if TYPE_CHECKING:
    from tests.unit.conftest import Run


@pytest.fixture
def two(watching: Run) -> Run:
    """Two processes that train together, and are watched."""
    return watching.leaving(watched=tuple(honest_process(rank, 2) for rank in range(2)))
