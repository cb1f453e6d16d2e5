"""`tensors.safetensors`: what a cell computed, kept beside its events for relations to compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from tunematrix.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Imported when tensors are read or written: planning and collecting do without numpy.
Array: TypeAlias = "NDArray[Any]"
Kind: TypeAlias = Literal["gradient", "parameter", "update", "loss", "state", "random", "logits"]

_KINDS: Mapping[str, Kind] = {kind: kind for kind in get_args(Kind)}


@dataclass(frozen=True)
class TensorKey:
    """What a tensor is.

    Attributes:
        kind: gradient: as the optimizer got it; parameter: after so many steps, so that 0 is the
            start; update: what a step made of a parameter; loss: of a logged step, of all rows;
            state: of the optimizer at the end; random: of a generator at the end; logits: (tokens,
            vocabulary), of the model that a stage ended with.
        step: from 0; None for what belongs to none.
        name: of the parameter, as in the bare model; of the generator; of the stage.
        part: of the optimizer's state alone: its key.
    """

    kind: Kind
    step: int | None = None
    name: str = ""
    part: str = ""

    def __str__(self) -> str:
        step = () if self.step is None else (str(self.step),)
        part = (self.part,) if self.part else ()
        return "/".join((self.kind, *step, self.name, *part))

    @classmethod
    def from_text(cls, text: str) -> TensorKey:
        """Read what `str` made of a key: `gradient/0/model.norm`, `state/model.norm/exp_avg`.

        Raises:
            ValueError: it is no key.
        """
        word, slash, rest = text.partition("/")
        kind = _KINDS.get(word)
        if kind is None or not slash:
            raise ValueError(f"{text} is no tensor that a cell keeps")
        if kind == "state":
            name, _, part = rest.rpartition("/")
            return cls("state", None, name, part)
        if kind in ("random", "logits"):
            return cls(kind, None, rest)
        step, _, name = rest.partition("/")
        return cls(kind, int(step), name)


Tensors: TypeAlias = Mapping[TensorKey, Array]


def write_tensors(path: Path, tensors: Tensors) -> None:
    """Write all tensors of a cell, all or nothing."""
    import numpy as np
    from safetensors.numpy import save_file

    draft = path.with_suffix(".draft")
    # safetensors writes memory as it lies, whatever the strides say.
    save_file({str(key): np.asarray(array, order="C") for key, array in tensors.items()}, draft)
    draft.replace(path)


def read_tensors(path: Path) -> Tensors:
    """Read the tensors of a cell; there are none where it never came to write them.

    Raises:
        BadInput: the file is something else, or was cut off.
    """
    if not path.exists():
        return {}
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return {TensorKey.from_text(name): tensor for name, tensor in load_file(path).items()}
    except (SafetensorError, ValueError) as error:
        text = f"{path}: can't be read ({error}); something else wrote it, so run the cell again"
        raise BadInput(text) from error
