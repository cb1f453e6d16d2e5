"""What an adapter merged into its base comes to, by formulas of our own and from files alone.

LoRA: W + s B A (arXiv 2106.09685). DoRA: the same sum, each row multiplied by m over its norm
(arXiv 2402.09353).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from tunematrix.configuration.adapters import factor
from tunematrix.errors import BadInput
from tunematrix.evidence.events import AdapterShare
from tunematrix.stack import adapters
from tunematrix.stack.engines.torch.meters.weights import Originals, is_turned, stored_weight
from tunematrix.stack.quantizers.common import TorchQuantizer
from tunematrix.stack.yardsticks.shares import Stored, share

_KNOWN = ("alpha_pattern", "fan_in_fan_out", "rank_pattern")
"""Settings of PEFT's that mlx-lm has no word for, and this has: scales by layer, and how the base
keeps its weights."""


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
        tensors, settings = _tensors(adapter), _settings(config)
        if strange := [name for name in tensors if _place(name, linears) is None]:
            raise _refused(adapter, f"holds {strange[0]}")
        return _factors(adapter, tensors, settings, linears)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        text = f"{adapter} can't be read as an adapter ({type(error).__name__}: {error})"
        raise BadInput(f"{text}; likely an interrupted copy: save or copy it again") from None


def _refuse_others(adapter: Path, config: Mapping[str, Any]) -> None:
    more = [name for name in adapters.ONLY_PEFT if name not in _KNOWN and config.get(name)]
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


def of_linears(adapter: Path, linears: Sequence[str]) -> dict[str, Factors]:
    """Read what an adapter that PEFT has saved has for these layers, whatever else it holds."""
    config: dict[str, Any] = json.loads((adapter / adapters.CONFIG).read_text("utf-8"))
    return _factors(adapter, _tensors(adapter), _settings(config), linears)


def of_embedding(adapter: Path, name: str) -> dict[str, Factors]:
    """Read what such an adapter has for embeddings, if anything; they are (tokens, width)."""
    config: dict[str, Any] = json.loads((adapter / adapters.CONFIG).read_text("utf-8"))
    tensors, settings = _tensors(adapter), _settings(config)
    kinds = {
        kind: f"{adapters.PREFIX}{name}.{own}" for own, kind in adapters.PEFT_EMBEDDING.items()
    }
    if not {*kinds.values()} <= tensors.keys():
        return {}
    first, second = (tensors[kinds[kind]] for kind in "ab")
    return {name: Factors(second.T, first.T, None, factor(settings, name))}


def _tensors(adapter: Path) -> dict[str, torch.Tensor]:
    with safe_open(adapter / adapters.PEFT_TENSORS, "pt") as file:
        return {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what PEFT has saved of scales, by the names that methods have for it."""
    patterns = {name: config.get(name) for name in ("rank_pattern", "alpha_pattern", "use_rslora")}
    return {"rank": config["r"], "alpha": config["lora_alpha"], **patterns}


def _place(name: str, linears: Sequence[str]) -> tuple[str, str] | None:
    """Return the layer, and the kind of factor, that a saved tensor belongs to."""
    kinds = "|".join(map(re.escape, adapters.PEFT_KINDS))
    match = re.fullmatch(rf"{re.escape(adapters.PREFIX)}(.+)\.({kinds})", name)
    known = match is not None and match[1] in linears
    return (match[1], adapters.PEFT_KINDS[match[2]]) if match is not None and known else None


def _factors(
    adapter: Path,
    tensors: Mapping[str, torch.Tensor],
    settings: Mapping[str, Any],
    linears: Sequence[str],
) -> dict[str, Factors]:
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if (place := _place(name, linears)) is not None:
            found.setdefault(place[0], {})[place[1]] = tensor
    if not found:
        raise _refused(adapter, "holds no tensor")
    return {
        layer: Factors(parts["a"], parts["b"], parts.get("m"), factor(settings, layer))
        for layer, parts in found.items()
    }


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
            stored = stored_weight(layer, quantizer, plain.numel())
            found += _share(name, stored, plain, factors)
    return tuple(found)


def shares_beside(
    model: nn.Module,
    fresh: nn.Module,
    found_in: Sequence[Mapping[str, Factors]],
    quantizer: TorchQuantizer,
    how: Stored,
) -> tuple[AdapterShare, ...]:
    """Measure the same of the first of several beside the base as it is stored, with the others.

    What quantizing the base lost isn't lost by the merge.
    """
    trained, *others = found_in
    found: list[AdapterShare] = []
    for name, own in trained.items():
        size = own.second.shape[0] * own.first.shape[1]
        plain, stored = (
            stored_weight(one.get_submodule(name), quantizer, size) for one in (fresh, model)
        )
        plain = plain.cpu()
        for other in others:
            plain = other[name].merged_into(plain)
        found += _share(name, stored, plain, own, how)
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
    name: str,
    stored: torch.Tensor,
    plain: torch.Tensor,
    factors: Factors,
    how: Stored | None = None,
) -> Iterator[AdapterShare]:
    due = factors.merged_into(plain)
    held, before, wanted = (one.cpu().numpy() for one in (stored, plain, due))
    yield from share(name, held, before, wanted, how)
