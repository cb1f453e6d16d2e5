"""Records of relations under seeds, of which tables of tolerances are made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tunematrix.baselines.tolerances import LEAST_SEEDS, tabulate_all
from tunematrix.checks.bound import AtMost
from tunematrix.checks.verdict import Verdict
from tunematrix.errors import BadInput
from tunematrix.matrix.cells import display_id
from tunematrix.results.record import Record

VERSIONS = {"torch": "2.13.0", "mlx": "0.32.4", "numpy": "2.3.0"}
MACHINE = {"architecture": "x86_64", "threads": 2}


def record(
    name: str = "a[cpu]",
    seed: int | None = 0,
    figure: float | None = 1e-7,
    backend: str = "cpu",
    **fields: Any,
) -> Record:
    """A relation's record under one seed."""
    check = Verdict("same_gradients", "passed", figure, AtMost(0.005), "", "no tensors")
    whole: dict[str, Any] = {
        "outcome": "passed",
        "checks": (check,),
        "arms": ("x", "y"),
        "versions": VERSIONS,
        "machine": MACHINE,
        "base_id": name,
        "seed": seed,
        "backend": backend,
        **fields,
    }
    shown = display_id(name, seed, whole.get("planted", ""))
    return Record("20261224-101112-1a2f", shown, "a.yaml", "cpu", {"backend": backend}, **whole)


def seeds(name: str = "a[cpu]", top: float = 1e-7, **fields: Any) -> list[Record]:
    """Records under enough seeds, the last of which differs most."""
    count = LEAST_SEEDS
    return [record(name, n, top * (n + 1) / count, **fields) for n in range(count)]


def refusal(records: Sequence[Record], folder: Path) -> list[str]:
    """Why no table is made of records."""
    with pytest.raises(BadInput) as caught:
        tabulate_all(records, folder)
    return str(caught.value).splitlines()
