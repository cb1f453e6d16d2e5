"""What every method is.

A method attaches to a loaded model, names the parameters that it must train, and saves and
loads what it trained. The names are derived from the base's own layers, so that an adapter
which forgot a layer can't vouch for itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tunematrix.stack.engines.common import Base

BLOCK = re.compile(r".*?\.\d+\.")
"""How the names of a decoder layer's insides begin."""


class TorchMethod(Protocol):
    """The interface that `configs/method/*.yaml` name in `implementation._target_`."""

    loop: Literal["sft", "plain"]
    """Which loop trains it: TRL's SFTTrainer, or a plain one."""
    has_scale: bool
    """Whether a fixed factor scales its adapters' products, so that it can be measured."""

    def attach(self, model: PreTrainedModel, base: Base, kbit: bool, checkpoint: bool) -> nn.Module:
        """Make `model` trainable.

        `kbit`: its quantizer prepares for k-bit training; `checkpoint`: activations will be
        recomputed in the backward pass.
        """

    def must_train(self, base: Base) -> tuple[str, ...]:
        """Name the parameters of the attached model that must be trained."""

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write what was trained into `folder`."""

    def load(self, model: PreTrainedModel, base: Base, folder: Path) -> nn.Module:
        """Put what `folder` holds onto a freshly loaded base."""


def adapted_linears(model: nn.Module, base: Base) -> Iterator[nn.Module]:
    """Yield the base's linear layers in the attached `model`, each with what adapts it."""
    suffixes = tuple(base.linears)
    return (layer for name, layer in model.named_modules() if name.endswith(suffixes))


def one_of_each_block(model: nn.Module, base: Base) -> list[nn.Module]:
    """Return a linear layer inside each of the decoder's, or any where there are none of those."""
    firsts: dict[str, str] = {}
    for name in base.linears:
        firsts.setdefault(name[: match.end()] if (match := BLOCK.match(name)) else "", name)
    suffixes = tuple(first for block, first in firsts.items() if block or len(firsts) == 1)
    return [layer for name, layer in model.named_modules() if name.endswith(suffixes)]


def describe(model: PreTrainedModel) -> Base:
    """Read a `Base` off an unquantized model.

    Experts that share one three-dimensional parameter, and their router, aren't linear layers.
    """
    head, embeds = model.get_output_embeddings(), model.get_input_embeddings()
    linears = {
        name: _shape(layer)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear | Conv1D) and layer is not head
    }
    return Base(
        linears=tuple(linears),
        shapes=tuple(linears.values()),
        parameters=tuple(name for name, _ in model.named_parameters()),
        embedding=next(name for name, layer in model.named_modules() if layer is embeds),
    )


def _shape(layer: nn.Linear | Conv1D) -> tuple[int, int]:
    """Return (out, in) of a layer; GPT-2's keeps its weight the other way round."""
    rows, columns = layer.weight.shape
    return (columns, rows) if isinstance(layer, Conv1D) else (rows, columns)
