"""A folder that a trainer saved to go on from → what is wrong with its files, without unpickling.

A trainer writes its own state last, so that a process killed meanwhile leaves files cut or
missing; a machine that goes down may leave them whole in length and empty within.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from tunematrix.errors import BadInput

STATE = "trainer_state.json"
ADAPTER = "adapter_config.json"
MODEL = "config.json"
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLES = ("adapter_model.bin", "pytorch_model.bin", "pytorch_model.bin.index.json")
_OPTIMIZER = ("optimizer.pt", "scheduler.pt")
_RANDOM = "rng_state.pth"

Shapes = Mapping[str, tuple[int, ...]]
"""Name of a tensor → its shape."""


class Torn(BadInput):
    """A checkpoint isn't whole; the text names the file, and what is wrong with it."""


def fault(folder: Path) -> str:
    """Return what is wrong with a checkpoint, such as "optimizer.pt isn't there"; "" for nothing.

    Tensors are read for their checksums where they have any: those of the optimizer.
    """
    try:
        step = step_of(folder)
        shapes_of(folder)
        _check_beside(folder)
        for name in (*_OPTIMIZER, _RANDOM):
            _check_zip(folder / name)
    except Torn as error:
        return str(error)
    number = folder.name.rpartition("-")[2]
    if number.isdecimal() and int(number) != step:
        return f"{STATE} is that of step {step}"
    return ""


def _check_beside(folder: Path) -> None:
    """Check the adapters that PEFT saves beside the trained one, in folders of their names."""
    for config in sorted(folder.glob(f"*/{ADAPTER}")):
        try:
            shapes_of(config.parent)
        except Torn as error:
            raise Torn(f"{config.parent.name}/{error}") from None


def step_of(folder: Path) -> int:
    """Return the optimizer steps that were done when it was saved.

    Raises:
        Torn: the trainer's state is missing, or can't be read.
    """
    step = json_of(folder / STATE).get("global_step")
    if not isinstance(step, int) or isinstance(step, bool) or step < 1:
        raise Torn(f"{STATE} names no step")
    return step


def shapes_of(folder: Path) -> Shapes:
    """Return the shapes of the saved tensors, from the headers of their files.

    Raises:
        Torn: a file is missing, or isn't as long as its header says.
    """
    if (folder / ADAPTER).exists():
        json_of(folder / ADAPTER)
        return _header(folder / _ADAPTER_WEIGHTS)
    if (folder / _ADAPTER_WEIGHTS).exists():
        raise Torn(f"{ADAPTER} isn't there")
    json_of(folder / MODEL)
    if not (folder / _INDEX).exists():
        return _header(folder / _WEIGHTS)
    return _sharded(folder)


def _sharded(folder: Path) -> Shapes:
    placed = json_of(folder / _INDEX).get("weight_map")
    if not isinstance(placed, dict) or not all(isinstance(one, str) for one in placed.values()):
        raise Torn(f"{_INDEX} doesn't say where the tensors are")
    shards = {name: _header(folder / Path(name).name) for name in sorted(set(placed.values()))}
    for tensor, name in placed.items():
        if tensor not in shards[name]:
            raise Torn(f"{name} lacks {tensor}")
    return {tensor: shards[name][tensor] for tensor, name in placed.items()}


def json_of(path: Path) -> dict[str, Any]:
    """Read an object of settings.

    Raises:
        Torn: there is none.
    """
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise Torn(_unreadable(path, error)) from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Torn(f"{path.name} isn't whole, or no JSON")
    return found


def _header(path: Path) -> Shapes:
    if not path.exists() and any((path.parent / name).exists() for name in _PICKLES):
        raise Torn(f"{path.name} isn't there; weights in pickle form aren't read")
    try:
        with path.open("rb"):
            pass  # safe_open says in words alone why it can't open a file
        with safe_open(path, framework="numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise Torn(_unreadable(path, error)) from None
    except SafetensorError as error:
        raise Torn(f"{path.name} isn't whole: {error}") from None


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as file:
            broken = file.testzip()
    except OSError as error:
        raise Torn(_unreadable(path, error)) from None
    # What zipfile raises of damaged bytes isn't documented; these were met.
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise Torn(f"{path.name} isn't whole: {error}") from None
    if broken is not None:
        raise Torn(f"{path.name} is damaged in its part {broken}")


def _unreadable(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path.name} isn't there"
    return f"{path.name} can't be read: {error.strerror or error}"
