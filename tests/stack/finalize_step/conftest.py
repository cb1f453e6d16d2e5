"""Adapters to finalize: over each architecture of the toy world, made once for all tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.stack.conftest import Carry, Judged, judged
from transformers import AutoModelForCausalLM

from tunematrix.configuration.steps import PipelineSteps
from tunematrix.matrix.cells import expand
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.spec.matrix import Matrix
from tunematrix.spec.model import Spec
from tunematrix.stack.engines.torch.methods.common import describe
from tunematrix.stack.toyworld import models

Adapter = Callable[..., Path]
Finalize = Callable[..., Judged]
EXPORTED = ("none", "bnb-nf4", "bnb-int8", "torchao-int4", "torchao-int8")
FAULTS = Path(__file__).parents[1] / "step_faults.py"


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    """Return the folder of an adapter over one of the toy world's models, made once."""
    root = tmp_path_factory.mktemp("adapters")

    def make(name: str = "base", size: float = 0.02, **settings: Any) -> Path:
        folder = root / "-".join(map(str, (name, size, *settings)))
        if not folder.exists():
            _write(models.resolve(f"toyworld://{name}", root / "cache"), folder, size, settings)
        return folder

    return make


def _write(base: Path, folder: Path, size: float, settings: Mapping[str, Any]) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base)
    layers = list(describe(model).linears)
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": layers, **settings})
    attached = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in attached.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, size)
            elif "magnitude" in name:
                parameter.mul_(1 + torch.randn_like(parameter) * size)
    attached.save_pretrained(folder)


@pytest.fixture
def finalize(carry_here: Carry) -> Finalize:
    """Take the step finalize, and others, in one cell on the CPU; what one raises is raised."""

    def run(
        path: Path | str,
        quantizer: str = "none",
        fault: str = "",
        steps: Mapping[str, Any] | None = None,
        **export: Any,
    ) -> Judged:
        own = {"model": {"path": str(path)}, "export": {"threads": 1, **export}}
        spec = Spec(
            test_id="finalize",
            recipe="pipeline",
            matrix=Matrix.of({"quantizer": (quantizer,)}),
            steps=PipelineSteps.model_validate({"finalize": own, **(steps or {})}),
        )
        (cell,), _ = expand(spec, read_groups([shipped_configs()]), ["cpu"])
        return judged(carry_here(cell, f"{FAULTS}:{fault}") if fault else carry_here(cell))

    return run
