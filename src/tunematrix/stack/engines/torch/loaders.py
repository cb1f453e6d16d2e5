"""What was saved, loaded in each way that its users load it: a folder goes in, models come out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tunematrix.stack.quantizers.common import Placement, TorchQuantizer, from_pretrained
from tunematrix.stack.releases import dtype_keyword, merge_safely

OLDEST = (
    "peft_type", "task_type", "base_model_name_or_path", "r", "lora_alpha", "target_modules",
    "modules_to_save", "use_dora", "use_rslora", "rank_pattern", "alpha_pattern",
)  # fmt: skip
"""Settings without which an adapter is another one; a release that lacks one can't have used it."""
UNKNOWN = "setting_of_a_later_release"
Load = Callable[[], nn.Module]
"""Loads a model anew."""


@dataclass(frozen=True)
class Saved:
    """One folder that a cell saved, and what it takes to load it.

    Attributes:
        folder: of an adapter, a checkpoint, or what only a method of our own can read.
        quantizer, placement: of the base beneath an adapter.
        linears: of the base, by name; original: loads it unquantized; fresh: as it was trained on.
        restore: loads what was saved onto a fresh one.
    """

    folder: Path
    quantizer: TorchQuantizer
    placement: Placement
    linears: Sequence[str]
    original: Callable[[], PreTrainedModel]
    fresh: Callable[[], PreTrainedModel]
    restore: Load

    def ways(self, merged: Path) -> Mapping[str, Load]:
        """Return each way by its name; what is merged is saved into `merged`.

        - `reloaded`: as this engine restores it; `auto`: through transformers' AutoModel.
        - Of an adapter also `peft` (PeftModel on a fresh base), `auto-peft` (PEFT's own AutoModel),
          `merged` (into a fresh base, saved and loaded where the library can), and `unmerged`
          (merged and taken out again, in memory); `late` where a base can be quantized after the
          adapter was put onto it.

        Where the base isn't quantized also `untyped` (an AutoModel without a dtype), `hasty`
        (merged without looking for nan) and `foreign` (PEFT, from settings as other releases
        write them).

        The AutoModels load the base by themselves, so there are none over quantizers that don't
        load through transformers: hqq, quanto and torchao.
        """
        if (self.folder / "adapter_config.json").exists():
            adapter: dict[str, Load] = {
                "reloaded": self.restore,
                "peft": lambda: PeftModel.from_pretrained(self.fresh(), str(self.folder)),
                "merged": lambda: self.merge(merged),
                "unmerged": self._unmerge,
            }
            if self.quantizer.in_place:
                adapter["late"] = self._late
            if self.quantizer.settings(self.placement) is not None:
                adapter |= {"auto-peft": self._auto_peft, "auto": self._auto}
            if self.quantizer.settings(self.placement) == {}:
                adapter |= {
                    "untyped": lambda: self._untyped(AutoPeftModelForCausalLM),
                    "hasty": self._hasty,
                }
                adapter["foreign"] = lambda: self._foreign(merged.with_name("foreign"))
            return adapter
        if (self.folder / "config.json").exists():
            whole = {"reloaded": self.restore, "auto": self._auto}
            return {**whole, "untyped": lambda: self._untyped(AutoModelForCausalLM)}
        return {"reloaded": self.restore}

    def merge(self, folder: Path) -> nn.Module:
        """Merge an adapter into a fresh base; save that and load it again where that is possible.

        Raises:
            ValueError: what was saved is no adapter of PEFT's.
        """
        attached = self.restore()
        if not isinstance(attached, PeftModel):
            message = f"{self.folder} holds no adapter to merge"
            raise ValueError(message)
        return self.quantizer.merge(attached, folder, self.placement)

    def _unmerge(self) -> nn.Module:
        attached = self.restore()
        assert isinstance(attached, PeftModel)
        self.quantizer.ready_to_merge(attached)
        merge_safely(attached)
        attached.unmerge_adapter()
        return attached

    def _late(self) -> nn.Module:
        attached: nn.Module = PeftModel.from_pretrained(self.original(), str(self.folder))
        wanted = tuple(f"{name}.base_layer" for name in self.linears)
        names = [name for name, _ in attached.named_modules() if name.endswith(wanted)]
        self.quantizer.quantize(attached, names)
        return attached

    def _auto_peft(self) -> nn.Module:
        loaded: nn.Module = AutoPeftModelForCausalLM.from_pretrained(
            str(self.folder),
            local_files_only=True,
            trust_remote_code=False,
            **{dtype_keyword(): self.placement.weights},
            **(self.quantizer.settings(self.placement) or {}),
        )
        return self._placed(loaded)

    def _untyped(self, loader: Any) -> nn.Module:
        loaded: nn.Module = loader.from_pretrained(
            str(self.folder), local_files_only=True, trust_remote_code=False
        )
        return self._placed(loaded)

    def _hasty(self) -> nn.Module:
        attached = self.restore()
        assert isinstance(attached, PeftModel)
        merged: nn.Module = attached.merge_and_unload()
        return merged

    def _foreign(self, folder: Path) -> nn.Module:
        """Load through settings of another release: fewer than this one knows, and one it can't."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        file = folder / "adapter_config.json"
        settings = json.loads(file.read_text("utf-8"))
        kept = {name: settings[name] for name in OLDEST if settings.get(name)}
        file.write_text(json.dumps({**kept, UNKNOWN: True}), "utf-8")
        loaded: nn.Module = PeftModel.from_pretrained(self.fresh(), str(folder))
        return loaded

    def _auto(self) -> nn.Module:
        settings = self.quantizer.settings(self.placement) or {}
        return self._placed(from_pretrained(self.folder, self.placement, **settings))

    def _placed(self, model: nn.Module) -> nn.Module:
        # Settings of a quantizer say where to load, and what is quantized can't be moved.
        return model if self.quantizer.settings(self.placement) else model.to(self.placement.device)


def cast(model: nn.Module, dtypes: Mapping[str, torch.dtype]) -> nn.Module:
    """Turn the parameters of `model` into `dtypes`, by name, in place."""
    for name, parameter in model.named_parameters():
        wanted = dtypes.get(name, parameter.dtype)
        if wanted != parameter.dtype:
            parameter.data = parameter.data.to(wanted)
    return model


def dequantized(
    quantized: nn.Module, plain: PreTrainedModel, linears: Sequence[str], quantizer: TorchQuantizer
) -> PreTrainedModel:
    """Put the weights that a freshly loaded base's layers stand for into a plain model."""
    for name in linears:
        weight = quantizer.dequantized(quantized.get_submodule(name))
        layer = plain.get_submodule(name)
        with torch.no_grad():
            layer.weight.copy_(weight.T if isinstance(layer, Conv1D) else weight)
    return plain
