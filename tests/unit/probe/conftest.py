"""Loops that are run under the probe in this process, and what it wrote of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tunematrix.probe import tunematrix_probe
from tunematrix.probe.tunematrix_probe import records

_KINDS: dict[str, Any] = {kind.__name__: kind for kind in records.RECORDS}


class Seen:
    """What the probe has written, by the kinds of its records."""

    def __init__(self, folder: Path) -> None:
        self.rows: list[tuple[str, dict[str, Any]]] = []
        for file in sorted((folder / "probe").glob("*.jsonl")):
            for line in file.read_text().splitlines():
                row = json.loads(line)
                self.rows.append((row.pop("kind"), row))

    def all(self, kind: type[Any]) -> list[Any]:
        """Return the records of a kind, in their order; no field is unknown or missing."""
        found = [row for name, row in self.rows if name == kind.__name__]
        names = {field.name for field in fields(kind)}
        assert all(row.keys() == names for row in found)
        return [
            _KINDS[kind.__name__](
                **{key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}
            )
            for row in found
        ]

    def one(self, kind: type[Any]) -> Any:
        """Return the last record of a kind."""
        return self.all(kind)[-1]

    @property
    def errors(self) -> list[str]:
        """Reasons of what fell over in the probe itself."""
        return [row.reason for row in self.all(records.SwitchedOff) if row.is_error]


Watch = Callable[[Callable[[], object]], Seen]


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    """Run a loop under the probe, and return what it saw; nothing of it may fall over."""

    def run(loop: Callable[[], object]) -> Seen:
        tunematrix_probe.start(str(tmp_path))
        try:
            loop()
        finally:
            tunematrix_probe.stop()
        seen = Seen(tmp_path)
        assert seen.errors == []
        return seen

    yield run
    tunematrix_probe.stop()
