"""What a training step began with and what it left, held against the files on disk."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from torch import nn

from tunematrix.evidence.events import StepStarted
from tunematrix.stack.steps import opening
from tunematrix.stack.steps.job import StepJob

_WORDS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}
_ADAPTER = "adapter_model.safetensors"


def bits(model: nn.Module) -> dict[str, int]:
    """Return for each trained tensor a sum over its bits, which any change is likely to change."""
    return {
        name: int(parameter.detach().contiguous().view(_WORDS[parameter.dtype]).sum().item())
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def moved(before: Mapping[str, int], model: nn.Module) -> int:
    """Return how many trained tensors have other bits than before."""
    after = bits(model)
    return sum(after[name] != value for name, value in before.items())


def hold_to_file(model: PeftModel, adapter: Path, job: StepJob) -> None:
    """Write down whether an adapter that was loaded is the one that lies on disk."""
    loaded = get_peft_model_state_dict(model)
    with safe_open(adapter / _ADAPTER, "pt") as file:
        names = list(file.keys())
        differing = sum(not _is(loaded.get(name), file.get_tensor(name)) for name in names)
    job.events.write(StepStarted(job.name, len(names), differing))


def _is(loaded: torch.Tensor | None, written: torch.Tensor) -> bool:
    if loaded is None or loaded.shape != written.shape:
        return False
    return torch.equal(loaded.detach().cpu().to(written.dtype), written)


def load_again(source: opening.ModelSource, dtype: str, job: StepJob) -> nn.Module:
    """Load what a step has saved, from files alone, as it was trained."""
    gc.collect()
    if not (job.output_dir / opening.ADAPTER).is_file():
        return opening.load(opening.ModelSource(job.output_dir, job.output_dir), job.config, dtype)
    base = opening.load_base(source, job.config, dtype)
    return PeftModel.from_pretrained(base, str(job.output_dir)).eval()
