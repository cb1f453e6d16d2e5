"""A cell's overrides → its whole configuration as a plain dict, through Hydra.

Hydra is imported here alone, and only when a cell is composed: planning does without it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from tunematrix.errors import BadInput
from tunematrix.matrix.cells import Cell
from tunematrix.matrix.grammar import hydra_override
from tunematrix.spec.yaml_tree import Value

# Hydra keeps what it composes from in globals of the process.
_one_at_a_time = threading.Lock()


def compose(cell: Cell, roots: Sequence[Path]) -> dict[str, Value]:
    """Return the configuration of a cell, with everything interpolated.

    Args:
        cell: the cell.
        roots: the config folders, tunematrix's own first.

    Raises:
        BadInput: a value is missing, an interpolation leads nowhere, or Hydra can't compose it.
    """
    from hydra import compose as hydra_compose
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    more_roots = [f"file://{root.resolve()}" for root in roots[1:]]
    overrides = [hydra_override("hydra.searchpath", more_roots), *cell.overrides]
    try:
        with _one_at_a_time, _hydra_on(roots[0]):
            config = hydra_compose("cell", overrides)
        if missing := sorted(OmegaConf.missing_keys(config)):
            raise _broken(cell, f"{', '.join(missing)}: left open (???); set it in overrides")
        return cast("dict[str, Value]", OmegaConf.to_container(config, resolve=True))
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ or error  # Hydra wraps what it didn't expect in an empty error
        key = f"{found}: " if (found := getattr(cause, "full_key", None)) else ""
        reason = " ".join(str(cause).partition("\n    full_key:")[0].split())
        raise _broken(cell, f"{key}{reason}; correct the config") from None


def _broken(cell: Cell, text: str) -> BadInput:
    return BadInput(f"{cell.spec.where()}: {cell.id}: {text}")


@contextmanager
def _hydra_on(root: Path) -> Iterator[None]:
    """Point Hydra to a config folder; afterwards its globals are as they were."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.version import VersionBase

    outer_hydra = GlobalHydra.instance().hydra
    outer_base = VersionBase.instance().version_base
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(root.resolve()), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = outer_hydra
        VersionBase.instance().version_base = outer_base
