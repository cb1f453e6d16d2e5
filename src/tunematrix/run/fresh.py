"""The launcher `fresh`: a cell's recipe runs in a new interpreter, with a hash seed of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tunematrix.errors import RanksEnded
from tunematrix.paths import python_path

_CODE = "import sys; from pkgutil import resolve_name as r; r(sys.argv[1])(sys.argv[2])"


def launch(entry: Callable[..., None], run_dir: Path, *, processes: int, hash_seed: int) -> None:
    """Call `entry` with the run directory in a Python that inherits nothing but paths.

    Raises:
        RanksEnded: it ended with another code than 0.
        ValueError: more than one process is asked for.
    """
    if processes != 1:
        message = f"launcher.processes={processes}: a fresh interpreter is one; use ddp or fsdp"
        raise ValueError(message)
    name = f"{entry.__module__}:{entry.__qualname__}"
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": python_path()}
    command = [sys.executable, "-c", _CODE, name, str(run_dir)]
    code = subprocess.run(command, env=environment, check=False).returncode
    if code != 0:
        raise RanksEnded({0: code}, processes)
