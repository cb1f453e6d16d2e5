"""What an adapter merged into its base comes to, by formulas of our own and from files alone.

LoRA: W + s B A (arXiv 2106.09685). DoRA: the same sum, each row multiplied by m over its norm
(arXiv 2402.09353).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from tunematrix.errors import BadInput
from tunematrix.evidence.events import AdapterShare
from tunematrix.stack import adapters
from tunematrix.stack.engines.torch.meters.weights import Originals, is_turned, stored_weight
from tunematrix.stack.quantizers.common import TorchQuantizer

_TURNED = "fan_in_fan_out"
"""A setting of PEFT's that says only how the base keeps its weights."""


@dataclass(frozen=True)
class Factors:
    """What an adapter has for one layer.

    Attributes:
        first: (rank, in); second: (out, rank); magnitude: (out,), of DoRA alone.
        scale: that their product is multiplied by.
    """

    first: torch.Tensor
    second: torch.Tensor
    magnitude: torch.Tensor | None
    scale: float

    def merged_into(self, weight: torch.Tensor) -> torch.Tensor:
        """Return what a weight, (out, in), comes to with the adapter."""
        both = weight + self.scale * (self.second @ self.first)
        if self.magnitude is None:
            return both
        return both * (self.magnitude / both.norm(dim=1)).unsqueeze(1)


class MergedOriginals(Originals):
    """The tensors of a base's files, with an adapter's products in the layers that it adapts."""

    def __init__(self, base: Path, factors: Mapping[str, Factors]) -> None:
        super().__init__(base)
        self.factors = factors

    def weight(self, layer: str, *, turned: bool) -> torch.Tensor | None:
        """Return the merged weight of a linear layer, (out, in)."""
        plain, own = self.plain(layer, turned=turned), self.factors.get(layer)
        return plain if plain is None or own is None else own.merged_into(plain)

    def plain(self, layer: str, *, turned: bool) -> torch.Tensor | None:
        """Return the base's own weight of a layer, (out, in)."""
        return super().weight(layer, turned=turned)


def read(adapter: Path, linears: Sequence[str]) -> dict[str, Factors]:
    """Read an adapter that PEFT has saved: the name of a layer → its factors, in float32.

    Args:
        linears: names of the base's linear layers.

    Raises:
        BadInput: it is torn, or is more than LoRA or DoRA of these layers.
    """
    try:
        config: dict[str, Any] = json.loads((adapter / adapters.CONFIG).read_text("utf-8"))
        _refuse_others(adapter, config)
        with safe_open(adapter / adapters.PEFT_TENSORS, "pt") as file:
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        alike = {"rank": config["r"], "alpha": config["lora_alpha"]}
        scale = adapters.factor({**alike, "use_rslora": config.get("use_rslora")})
        return dict(_factors(adapter, tensors, scale, linears))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        text = f"{adapter} can't be read as an adapter ({type(error).__name__}: {error})"
        raise BadInput(f"{text}; likely an interrupted copy: save or copy it again") from None


def _refuse_others(adapter: Path, config: Mapping[str, Any]) -> None:
    more = [name for name in adapters.ONLY_PEFT if name != _TURNED and config.get(name)]
    start = str(config.get("init_lora_weights"))
    if config["peft_type"] != "LORA":
        fault = f"is of type {config['peft_type']}"
    elif more:
        fault = f"sets {', '.join(more)}"
    elif config.get("bias", "none") != "none":
        fault = "trains biases"
    elif start.startswith(adapters.CHANGES_BASE):
        fault = f"began as {start}, which changes its base"
    else:
        return
    raise _refused(adapter, fault)


def _factors(
    adapter: Path, tensors: Mapping[str, torch.Tensor], scale: float, linears: Sequence[str]
) -> Iterator[tuple[str, Factors]]:
    kinds = "|".join(map(re.escape, adapters.PEFT_KINDS))
    pattern = re.compile(rf"{re.escape(adapters.PREFIX)}(.+)\.({kinds})")
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        match = pattern.fullmatch(name)
        if match is None or match[1] not in linears:
            raise _refused(adapter, f"holds {name}")
        found.setdefault(match[1], {})[adapters.PEFT_KINDS[match[2]]] = tensor
    if not found:
        raise _refused(adapter, "holds no tensor")
    for layer, parts in found.items():
        yield layer, Factors(parts["a"], parts["b"], parts.get("m"), scale)


def _refused(adapter: Path, fault: str) -> BadInput:
    text = f"{adapter} {fault}; what is merged here is LoRA or DoRA of the decoder's linear layers"
    return BadInput(f"{text}: merge it with the tool that made it, and give the merged model")


def shares_in_model(
    model: nn.Module, owed: MergedOriginals, quantizer: TorchQuantizer
) -> tuple[AdapterShare, ...]:
    """Measure how much of an adapter is in each layer of a freshly loaded model."""
    found: list[AdapterShare] = []
    for name, factors in owed.factors.items():
        layer = model.get_submodule(name)
        plain = owed.plain(name, turned=is_turned(layer))
        if plain is not None:
            stored = stored_weight(layer, quantizer, plain.numel()).cpu()
            found += _share(name, stored, plain, factors)
    return tuple(found)


def shares_in_files(
    folder: Path, owed: MergedOriginals, turned: Mapping[str, bool]
) -> tuple[AdapterShare, ...]:
    """Measure the same in the files of an unquantized model, without loading that."""
    there = Originals(folder)
    found: list[AdapterShare] = []
    for name, factors in owed.factors.items():
        plain = owed.plain(name, turned=turned[name])
        stored = there.weight(name, turned=turned[name])
        if plain is not None and stored is not None:
            found += _share(name, stored, plain, factors)
    return tuple(found)


def _share(
    name: str, stored: torch.Tensor, plain: torch.Tensor, factors: Factors
) -> Iterator[AdapterShare]:
    """Yield how many times an adapter's change is in a weight, by regression, if it has any.

    What the change has in common with the weight itself is left out, since rounding to few levels
    shrinks a weight a little, and that would be taken for a part of the adapter.
    """
    due = factors.merged_into(plain)
    change = due - plain
    own = change - plain * (_dot(change, plain) / max(_dot(plain, plain), 1e-300))
    size = _dot(own, own)
    if size:
        error = stored - due
        spread = float(error.norm()) / math.sqrt(size * error.numel())
        yield AdapterShare(name, _dot(stored, own) / size, spread)


def _dot(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one * other).sum(dtype=torch.float64))
