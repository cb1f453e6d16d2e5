"""The GPUs that a command may see: counted without loading a library, and shared out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from tunematrix.configuration.options import BackendOption
from tunematrix.errors import Obstacle

VISIBLE = "CUDA_VISIBLE_DEVICES"


def gpus(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the names of the CUDA devices that this process may use: numbers, or UUIDs."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    there = [str(n) for n, line in enumerate(done.stdout.splitlines()) if line.startswith("GPU ")]
    if (visible := environ.get(VISIBLE)) is None:
        return tuple(there)
    chosen = [name.strip() for name in visible.split(",") if name.strip()]
    return tuple(name for name in chosen if name in there or name.startswith(("GPU-", "MIG-")))


def lack_of_gpus(backend: BackendOption, wanted: int) -> Obstacle | None:
    """Return what stands in the way of so many GPUs of a backend; None if they are there."""
    if not wanted or not backend.gpu:
        return None
    found = len(gpus()) if backend.cuda else int(sys.platform == "darwin")
    if found >= wanted:
        return None
    need = f"{wanted} GPU" if wanted == 1 else f"{wanted} GPUs"
    text = f"the command needs {need} of backend {backend.name}, and this machine has {found}"
    return Obstacle(need, text, "run it on a machine with more of them", present=found > 0)


def visible_devices(backend: BackendOption, wanted: int) -> dict[str, str]:
    """Return the variables that show a command no more GPUs than it is to use."""
    if backend.cuda:
        return {VISIBLE: ",".join(gpus()[:wanted])}
    # Where the backend is the CPU, a trainer must not find a GPU by itself.
    return {} if backend.gpu else {VISIBLE: ""}
