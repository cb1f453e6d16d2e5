"""Pip's settings and PyTorch's index → where the installer takes packages from."""

from __future__ import annotations

import ast
import os
import platform
import re
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunematrix.environments.table import Variant

PIP_TO_UV = {
    "cert": "SSL_CERT_FILE",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "index-url": "UV_DEFAULT_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
}
"""What pip has been told about where packages come from, under uv's name for it."""


def pip_settings() -> dict[str, str]:
    """Return pip's settings of where packages come from, as options without their dashes."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return read_settings(os.environ, listed)


def read_settings(told: Mapping[str, str], listed: str) -> dict[str, str]:
    """Read PIP_* variables, then what `pip config list` shows of pip's own files."""
    found = {}
    for option in (*PIP_TO_UV, "no-index"):
        in_files = re.findall(rf"^(?:global|install)\.{option}=(.*)$", listed, re.MULTILINE)
        value = told.get("PIP_" + option.upper().replace("-", "_"))
        if value or in_files:
            found[option] = value or str(ast.literal_eval(in_files[-1]))
    return found


def without_index(settings: Mapping[str, str]) -> bool:
    """Whether pip may ask no index."""
    return settings.get("no-index", "").lower() in ("1", "on", "t", "true", "y", "yes")


def as_uv(settings: Mapping[str, str], told: Mapping[str, str]) -> dict[str, str]:
    """Translate pip's settings into uv's variables; those that were set already win."""
    # Compiled now, or the first run would pay for it; several indexes are treated as by pip.
    variables = {"UV_COMPILE_BYTECODE": "1", "UV_INDEX_STRATEGY": "unsafe-best-match"}
    for option, variable in PIP_TO_UV.items():
        if value := settings.get(option):
            variables[variable] = ("," if option == "find-links" else " ").join(value.split())
    return {name: told.get(name, value) for name, value in variables.items()}


@dataclass(frozen=True)
class TorchSource:
    """Where PyTorch's build for a backend comes from.

    Attributes:
        pins: constraints that choose it. options: what the installer has to be told.
        warnings: why another build has to do, where it has to.
    """

    pins: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def torch_source(
    index: str,
    version: str,
    variant: Variant,
    wheels: Sequence[str],
    *,
    may_ask: bool = True,
) -> TorchSource:
    """Find PyTorch's build for a backend.

    For Linux, PyPI has the CUDA build alone, of several GB. The right one comes from a folder of
    wheels or from PyTorch's index; where neither can give it, PyPI's has to do.

    Args:
        index: PyTorch's own index for the backend; its last part tags the build: "cpu".
        version: what the lock has; for a variant the least that pyproject.toml allows.
        variant: which versions are taken.
        wheels: ascending versions of that build that there are wheels of.
        may_ask: whether an index may be asked.
    """
    tag = tag_of(index)
    if found := _choose(wheels, version, variant):
        return TorchSource(pins=(f"torch=={found}+{tag}",))
    if not may_ask:
        text = f"no folder of wheels has torch {version}+{tag}, and --no-index forbids a download"
        return TorchSource(warnings=(text,))
    try:
        urllib.request.urlopen(f"{index}/torch/", timeout=3).close()
    except OSError as problem:
        text = f"{index} can't be reached ({problem}): using PyPI's torch instead, several GB"
        return TorchSource(warnings=(text,))
    # The lowest that fits is else PyPI's, as 2.13.0 comes before 2.13.0+cpu.
    pins = (f"torch=={version}+{tag}",) if variant == "lowest" else ()
    return TorchSource(pins=pins, options=("--extra-index-url", index))


def tag_of(index: str) -> str:
    """Return how PyTorch tags the builds of an index: cpu for https://…/whl/cpu."""
    return index.rpartition("/")[2]


def torch_wheels(find_links: str, tag: str, python: tuple[int, int]) -> list[str]:
    """Return the versions of torch that there are wheels of, for a Python and this processor.

    Args:
        find_links: folders with commas between them, as uv has them.
        tag: of the build. python: as (3, 11).
    """
    wheel = f"torch-*+{tag}-cp{python[0]}{python[1]}-*_{platform.machine()}.whl"
    folders = [Path(folder.removeprefix("file://")) for folder in find_links.split(",") if folder]
    found = {path.name.split("-")[1].partition("+")[0] for f in folders for path in f.glob(wheel)}
    return sorted(found, key=_numbers)


def _choose(versions: Sequence[str], version: str, variant: Variant) -> str | None:
    """Choose among ascending versions: the very one, or the lowest or latest from it on."""
    if variant == "locked":
        return version if version in versions else None
    fitting = [each for each in versions if _numbers(each) >= _numbers(version)]
    return None if not fitting else fitting[0] if variant == "lowest" else fitting[-1]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
