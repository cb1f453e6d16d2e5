from __future__ import annotations

from pathlib import Path

import pytest

from tunematrix.matrix.cells import Cell, expand
from tunematrix.matrix.compose import compose
from tunematrix.paths import PACKAGE
from tunematrix.project import Project, read_project
from tunematrix.proof.soak.variations import variations, write_variations
from tunematrix.spec.loader import load_specs
from tunematrix.spec.model import Spec

COUNT = 40


@pytest.fixture(scope="module")
def project() -> Project:
    """The shipped suite in the environment cpu."""
    return read_project(PACKAGE, "cpu")


@pytest.mark.parametrize("backend", ["cpu", "mlx"])
def test_most_can_be_run(project: Project, backend: str) -> None:
    """Each is one cell that composes, or is declared unsupported."""
    cells: list[Cell] = []
    for data in variations(project.groups, backend, COUNT):
        some, _ = expand(Spec.model_validate(data), project.groups, [backend])
        assert len(some) <= 1
        cells += some
    assert len(cells) > COUNT // 4
    configs = [compose(cell, project.groups) for cell in cells[:10]]
    assert len({config.train.model_dump_json() for config in configs}) == len(configs)


def test_they_are_the_same_each_time(project: Project) -> None:
    """So that what was measured can be measured again."""
    assert variations(project.groups, "cpu", 5) == variations(project.groups, "cpu", 5)


def test_what_a_trainer_would_refuse_is_not_asked_of_it(project: Project) -> None:
    """Preferences are learned without dropout; a backend that can't clip isn't told to."""
    preferring = [d for d in variations(project.groups, "cpu", COUNT) if d["recipe"] == "dpo"]
    assert preferring
    for data in preferring:
        assert not data["overrides"].get("method.implementation.dropout")
        assert data["overrides"]["train.padding"] == "pad"
    for data in variations(project.groups, "mlx", COUNT):
        assert "train.max_grad_norm" not in data["overrides"]


def test_they_are_written_as_specs(project: Project, tmp_path: Path) -> None:
    """In place of those of an earlier run."""
    write_variations(project, tmp_path, 3)
    write_variations(project, tmp_path, 2)
    assert [spec.test_id for spec in load_specs([tmp_path])] == ["honest-000", "honest-001"]
