"""Config groups of two axes, and what their folders are refused for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tunematrix.errors import BadInput
from tunematrix.matrix.groups import read_groups

MakeRoot = Callable[..., Path]

CELL = "defaults:\n  - tracker: quiet\n  - backend: cpu\n  - _self_\ntrain: {max_steps: 60}\n"
SMALL = {
    "cell.yaml": CELL,
    "tracker/quiet.yaml": "name: quiet\nlines: 8\n",
    "backend/cpu.yaml": "name: cpu\n",
}
"""Of two axes, the first of which has no model: its options may hold any key."""
METHOD = "trains_base: false\nlearning_rates: {adaptive: 0.01, plain: 1.0}\n"
"""What the model of methods asks for."""


def refused(roots: list[Path]) -> list[str]:
    """Return the lines with which config folders are refused."""
    with pytest.raises(BadInput) as caught:
        read_groups(roots)
    return str(caught.value).splitlines()[1:]
