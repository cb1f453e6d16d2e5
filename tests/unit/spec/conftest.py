from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tunematrix.errors import BadInput
from tunematrix.spec import Spec, load_specs

ProblemsOf = Callable[[str], list[str]]
Load = Callable[[str], Spec]

OURS = "test_id: a\nrecipe: sft\n"
"""How each of these specs begins, in two lines."""


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the test's own folder, so that messages show paths relative to it."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Return a function that writes a spec to spec.yaml and loads it."""

    def write_and_load(text: str) -> Spec:
        file = tmp_path / "spec.yaml"
        file.write_text(text, encoding="utf-8")
        return load_specs([file])[0]

    return write_and_load


@pytest.fixture
def problems_of(load: Load) -> ProblemsOf:
    """Return a function that gives the lines with which a spec is refused."""

    def refused(text: str) -> list[str]:
        with pytest.raises(BadInput) as caught:
            load(text)
        count, *lines = str(caught.value).splitlines()
        assert count.startswith(f"{len(lines)} problem")
        return lines

    return refused
