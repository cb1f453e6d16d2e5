from __future__ import annotations

from pathlib import Path

import pytest

from tunematrix.results.record import Record
from tunematrix.results.store import Store


def a_record(cell_id: str = "a[cpu]", run_id: str = "r1") -> Record:
    """A passed cell's record."""
    return Record(run_id, cell_id, "a.yaml", "cpu", {"method": "lora"}, "passed")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store in a folder that isn't there yet."""
    return Store(tmp_path / ".tunematrix" / "cpu" / "results.jsonl")
