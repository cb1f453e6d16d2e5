"""Configurations for tests whose recipe is a function of a few lines."""

from __future__ import annotations

from functools import cache

from tunematrix.configuration import Configuration
from tunematrix.matrix.cells import Cell
from tunematrix.matrix.compose import compose
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.spec import Spec


def tiny_configuration(target: str, **train: object) -> Configuration:
    """Return the shipped default cell with another recipe: `target` is its dotted name."""
    config = _default()
    implementation = {"_target_": target, "_partial_": True}
    recipe = config.recipe.model_copy(update={"name": "tiny", "implementation": implementation})
    settings = config.train.model_copy(update=train)
    return config.model_copy(update={"recipe": recipe, "train": settings})


@cache
def _default() -> Configuration:
    groups = read_groups([shipped_configs()])
    spec = Spec(test_id="tiny", recipe="sft")
    return compose(Cell("tiny[cpu]", spec, groups.defaults, {}), groups)
