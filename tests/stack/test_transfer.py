"""mlx-lm's adapters in PEFT: the same outputs, unless the conversion loses something."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from tunematrix.errors import BadInput
from tunematrix.evidence.events import Transfer
from tunematrix.faults.patching import replaced
from tunematrix.stack import adapters
from tunematrix.stack.adapters import CONFIG, PEFT_TENSORS
from tunematrix.stack.engines.torch import TorchEngine
from tunematrix.stack.toyworld import truth

if TYPE_CHECKING:
    from tests.stack.conftest import RunCell

CELLS = {method: f"transfer[cpu-{method}]" for method in ("lora", "dora")}


def _alpha_ignored(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    config["lora_alpha"] = config["r"]
    (folder / CONFIG).write_text(json.dumps(config), "utf-8")


def _tensors(edit: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        tensors = load_file(folder / PEFT_TENSORS)
        edit(tensors)
        save_file(tensors, folder / PEFT_TENSORS)

    return change


def _swapped(tensors: dict[str, Any]) -> None:
    """Take A for B wherever the layer is square, so that every shape still fits."""
    for name in [name for name in tensors if ".q_proj.lora_A." in name]:
        other = name.replace("lora_A", "lora_B")
        tensors[name], tensors[other] = tensors[other].T.copy(), tensors[name].T.copy()


def _reshaped(tensors: dict[str, Any]) -> None:
    """Read a transposed matrix as if it weren't."""
    for name in [name for name in tensors if ".lora_A." in name]:
        tensors[name] = tensors[name].T.reshape(tensors[name].shape).copy()


def _without(part: str) -> Callable[[dict[str, Any]], None]:
    def drop(tensors: dict[str, Any]) -> None:
        for name in [name for name in tensors if part in name]:
            del tensors[name]

    return drop


PLANTED: dict[str, tuple[str, Callable[[Path], None]]] = {
    "alpha ignored": ("lora", _alpha_ignored),
    "A and B swapped": ("lora", _tensors(_swapped)),
    "A reshaped": ("dora", _tensors(_reshaped)),
    "one tensor left out": ("lora", _tensors(_without("layers.1.mlp.up_proj.lora_B"))),
    "magnitudes dropped": ("dora", _tensors(_without("magnitude"))),
}


@pytest.mark.parametrize("method", CELLS)
def test_adapters_of_both_formats(run_here: RunCell, method: str) -> None:
    """One as it is, one converted, and either changes far more than it may differ by."""
    judged = run_here(CELLS[method])
    assert judged.failed == set()
    seen = judged.evidence.all(Transfer)
    assert [t.source for t in seen] == ["peft", "mlx-lm"]
    assert min(t.changed_by_training for t in seen) > 1.0


@pytest.mark.parametrize("fault", PLANTED)
def test_lossy_conversion_is_named(run_here: RunCell, fault: str) -> None:
    """It loads without a complaint, and its outputs give it away."""
    method, damage = PLANTED[fault]

    def wrap(original: Any) -> Any:
        def convert(source: Path, target: Path) -> object:
            made = original(source, target)
            damage(target)
            return made

        return convert

    with replaced(adapters, "convert", wrap):
        judged = run_here(CELLS[method])
    assert judged.failed == {"transfer"}
    assert "mlx-lm adapter" in judged.verdicts["transfer"].message


def test_method_without_recorded_adapters() -> None:
    """It says which there are."""
    with pytest.raises(BadInput, match="give method=lora or method=dora"):
        truth.adapters("full")


def test_part_left_on_another_device_is_named(run_here: RunCell) -> None:
    """A recipe that doesn't train says where it computed, too."""

    def wrap(original: Any) -> Any:
        def load(engine: TorchEngine) -> nn.Module:
            model: nn.Module = original(engine)
            model.register_parameter("left_behind", nn.Parameter(torch.empty(1, device="meta")))
            return model

        return load

    with replaced(TorchEngine, "original", wrap):
        judged = run_here(CELLS["lora"])
    assert judged.failed == {"device"}
    assert judged.verdicts["device"].measured == "cpu, meta"
