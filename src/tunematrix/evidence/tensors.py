"""`tensors.safetensors`: what a cell computed, kept beside its events for relations to compare."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tunematrix.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Imported when tensors are read or written: planning and collecting do without numpy.
Array: TypeAlias = "NDArray[Any]"
Tensors: TypeAlias = Mapping[str, Array]
"""Name to array. Steps count from 0, and names of parameters are those of the bare model:

- `gradient/<step>/<parameter>`: as the optimizer got it;
- `parameter/<step>/<parameter>`: after so many steps, so 0 is the start;
- `state/<parameter>/<key>` and `random/<generator>`: of optimizer and generators at the end;
- `logits/<stage>`: (tokens, vocabulary), of the model that a stage ended with.
"""


def write_tensors(path: Path, tensors: Tensors) -> None:
    """Write all tensors of a cell, all or nothing."""
    import numpy as np
    from safetensors.numpy import save_file

    draft = path.with_suffix(".draft")
    # safetensors writes memory as it lies, whatever the strides say.
    save_file({name: np.asarray(one, order="C") for name, one in tensors.items()}, draft)
    draft.replace(path)


def read_tensors(path: Path) -> Tensors:
    """Read the tensors of a cell; there are none where it never came to write them.

    Raises:
        BadInput: the file is something else, or was cut off.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.exists():
        return {}
    try:
        found: Tensors = load_file(path)
    except SafetensorError as error:
        text = f"{path}: can't be read ({error}); something else wrote it, so run the cell again"
        raise BadInput(text) from error
    return found
