"""What is claimed of training that no spec describes: it ended well, and did what it should."""

from __future__ import annotations

from dataclasses import replace

from tunematrix.configuration import Configuration
from tunematrix.configuration.watch import Watch
from tunematrix.matrix.cells import Cell, expand
from tunematrix.matrix.compose import compose
from tunematrix.matrix.groups import Groups
from tunematrix.spec.model import COMMAND, Spec


def watched_cell(name: str, groups: Groups, timeout: int) -> Cell:
    """Return the cell of something that is watched, under a name of a-z, 0-9, _ and -."""
    spec = Spec(test_id=name, recipe=COMMAND, timeout=timeout, watch=Watch())
    (cell,), _ = expand(spec, groups, ["cpu"])  # what it computes with, the probe tells
    return replace(cell, base_id=name)


def watched_config(cell: Cell, groups: Groups, asked: Watch) -> Configuration:
    """Return its configuration: it owes how it ended, and what was seen of it."""
    config = compose(cell, groups)
    recipe = config.recipe.model_copy(update={"owes": ("process",)})
    return config.model_copy(update={"recipe": recipe, "watch": asked})
