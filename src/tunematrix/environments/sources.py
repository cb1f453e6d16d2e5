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
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
}
"""What pip has been told about where packages come from, under uv's name for it."""


def pip_settings() -> dict[str, str]:
    """Pip's settings, from PIP_* variables and pip's own files, as uv's variables."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return as_uv(os.environ, listed)


def as_uv(told: Mapping[str, str], listed: str) -> dict[str, str]:
    """Translate PIP_* variables and what `pip config list` shows; uv's own variables win."""
    # Compiled now, or the first run would pay for it; several indexes are treated as by pip.
    settings = {"UV_COMPILE_BYTECODE": "1", "UV_INDEX_STRATEGY": "unsafe-best-match"}
    for option, variable in PIP_TO_UV.items():
        in_files = re.findall(rf"^(?:global|install)\.{option}=(.*)$", listed, re.MULTILINE)
        value = told.get("PIP_" + option.upper().replace("-", "_"))
        if value or in_files:
            values = (value or str(ast.literal_eval(in_files[-1]))).split()
            settings[variable] = ("," if option == "find-links" else " ").join(values)
    return {name: told.get(name, value) for name, value in settings.items()}


@dataclass(frozen=True)
class TorchSource:
    """Where PyTorch's build for a backend comes from.

    Attributes:
        pins: constraints that choose it. options: what the installer has to be told.
        warning: why PyPI's build has to do; empty where it need not.
    """

    pins: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    warning: str = ""


def torch_source(
    index: str, version: str, variant: Variant, settings: Mapping[str, str]
) -> TorchSource:
    """Find PyTorch's build for a backend.

    For Linux, PyPI has the CUDA build alone, of several GB. The right one comes from pip's
    find-links or from PyTorch's index; where neither can give it, PyPI's has to do.

    Args:
        index: PyTorch's own index for the backend; its last part tags the build: "cpu".
        version: what the lock has; for a variant the least that pyproject.toml allows.
        variant: which versions are taken.
        settings: uv's, as `pip_settings` makes them.
    """
    if sys.platform != "linux":
        return TorchSource()
    tag = index.rpartition("/")[2]
    if found := _choose(torch_wheels(settings.get("UV_FIND_LINKS", ""), tag), version, variant):
        return TorchSource(pins=(f"torch=={found}+{tag}",))
    if settings.get("UV_NO_INDEX"):
        text = f"No folder of wheels has torch {version}+{tag}, and no index may be asked for it."
        return TorchSource(warning=text)
    try:
        urllib.request.urlopen(f"{index}/torch/", timeout=3).close()
    except OSError as problem:
        text = f"{index} is out of reach ({problem}): taking PyPI's torch, several GB."
        return TorchSource(warning=text)
    # The lowest that fits is else PyPI's, as 2.13.0 comes before 2.13.0+cpu.
    pins = (f"torch=={version}+{tag}",) if variant == "lowest" else ()
    return TorchSource(pins=pins, options=("--extra-index-url", index))


def torch_wheels(find_links: str, tag: str) -> list[str]:
    """Return the versions of torch that folders of wheels hold for this Python and processor."""
    wheel = f"torch-*+{tag}-cp3{sys.version_info.minor}-*_{platform.machine()}.whl"
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
