"""Backends by their name: what the shipped configs say of them, and whether they are here."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import pytest

from tunematrix.errors import BadInput, did_you_mean
from tunematrix.matrix.groups import Option, read_groups
from tunematrix.matrix.requirements import importable
from tunematrix.paths import shipped_configs

if TYPE_CHECKING:
    from tunematrix.stack.backends.common import Backend


def requires_backend(name: str) -> pytest.MarkDecorator:
    """Mark a test that needs a backend: "cpu", "cuda", "mps" or "mlx".

    Where it is missing, the test is reported as unavailable, with the reason; under
    `--require=NAME` it fails. The backend is looked for when the test is about to run.

    Raises:
        BadInput: there is no such backend.
    """
    _option(name)
    return pytest.mark.requires_backend(name, lacking=lambda: lacking(name))


@cache
def lacking(name: str) -> str:
    """Say why a backend can't compute here; empty where it can."""
    option = _option(name)
    if absent := [module for module in option.declared.requires if not importable(module)]:
        return f"it needs {', '.join(absent)}; install it with: {option.declared.install}"
    from tunematrix.stack.trial import problem_with  # brings the framework with it

    return problem_with(backend(name).multiply, "float32")


def load_original(folder: Path, name: str) -> Any:
    """Load a checkpoint in float32 as the backend's own engine does.

    Raises:
        BadInput: there is no such backend.
    """
    return resolve_name(f"{_option(name).data['engine']}:load_original")(folder, backend(name))


def backend(name: str) -> Backend:
    """Make a backend, without claiming its device.

    Raises:
        BadInput: there is no such backend.
    """
    implementation = _option(name).data["implementation"]
    from hydra.utils import instantiate  # imports the backend's framework

    made: Backend = instantiate(implementation)
    return made


def _option(name: str) -> Option:
    options = read_groups([shipped_configs()]).axes["backend"]
    if name not in options:
        raise BadInput(f"{name!r} is not a backend; {did_you_mean(name, options)}")
    return options[name]
