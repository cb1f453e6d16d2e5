"""What docs/extending.md shows works as it is printed: each of its files is installed and used."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from tests.plugin.distributions import install
from tests.tiny import tiny_configuration

from tunematrix.checks.registry import registry
from tunematrix.evidence.events import Determinants, Trainable
from tunematrix.paths import shipped_configs

if TYPE_CHECKING:
    from tests.stack.conftest import RunSmall

PAGE = Path(__file__).parents[2] / "docs/extending.md"
BLOCK = re.compile(r"(.*?)```(?:python|yaml|toml|console)\n(.*?)```", re.DOTALL)
NAME = re.compile(r"`([\w./-]+\.(?:py|yaml))`(?!])")
ZIPQ = '''
"""A library that rounds to even levels on both sides of zero, and stores them with their scales."""

import torch
from torch import nn


class Zipped(nn.Module):
    def __init__(self, layer, bits, group=32):
        super().__init__()
        self.shape, self.bias = layer.weight.shape, layer.bias
        self.in_features, self.out_features = layer.in_features, layer.out_features
        groups = layer.weight.detach().reshape(-1, group)
        top = groups.abs().amax(1, keepdim=True)
        scales = torch.where(top > 0, top, 1) / (2 ** (bits - 1) - 1)
        levels = torch.round(groups / scales).to(torch.int16)
        planes = [((levels + 2 ** (bits - 1)) >> bit) & 1 for bit in range(bits)]
        weights = 2 ** torch.arange(8)
        packed = (torch.stack(planes).reshape(-1, 8) * weights).sum(1).to(torch.uint8)
        self.bits = bits
        self.register_buffer("packed", packed)
        self.register_buffer("scales", scales)

    def forward(self, rows):
        return nn.functional.linear(rows, decompress(self).to(rows.dtype), self.bias)


def decompress(layer):
    planes = (layer.packed.unsqueeze(1) >> torch.arange(8)) & 1
    planes = planes.reshape(layer.bits, *layer.scales.shape[:1], -1)
    levels = sum(planes[bit].int() << bit for bit in range(layer.bits)) - 2 ** (layer.bits - 1)
    return (levels * layer.scales).reshape(layer.shape)


def compress(model, only, bits):
    for name in only:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, Zipped(model.get_submodule(name), bits))
'''


@pytest.fixture
def config_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The page's options beside the shipped ones; its modules and its check are installed."""
    files = {"zipq.py": ZIPQ, **_files()}
    site = install(tmp_path, "extending", files, {"tunematrix.checks": {"thrift": "thrift"}})
    monkeypatch.syspath_prepend(str(site))
    modules = [Path(name).stem for name in files if name.endswith(".py")]
    _forget(modules)
    yield [shipped_configs(), site / "configs"]
    _forget(modules)


def _files() -> dict[str, str]:
    """Each file of the page: the name that the text before a block ends with, and the block."""
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    named = ((NAME.findall(before), text) for before, text in blocks)
    return {names[-1]: text for names, text in named if names}


def _forget(modules: list[str]) -> None:
    """Other tests have modules of these names, too, and other checks."""
    registry.cache_clear()
    for name in modules:
        sys.modules.pop(name, None)


def test_the_quantizer(run_small: RunSmall) -> None:
    """Plain PyTorch trains an adapter over it, and every check that it promises to meet holds."""
    ran = run_small("custom-lora", quantizer="zipq-int6")
    assert {"stored_bits", "base_weights", "base_products", "logit_error"} <= set(ran.verdicts)
    assert ran.failed == set()


def test_the_method_and_the_recipe_with_the_check(run_small: RunSmall) -> None:
    """Second factors alone are trained, and little is padding."""
    ran = run_small("lora-fa", recipe="thrifty-sft")
    assert ran.failed == set()
    assert {"trainable", "frozen", "gradient", "reload", "padding"} <= set(ran.verdicts)
    (trained,) = ran.evidence.all(Trainable)
    assert all(name.endswith("lora_B") for name in trained.actual)


def test_the_backend_and_the_fault_that_the_check_alone_notices(run_small: RunSmall) -> None:
    """Rows that are mostly padding train as well as others, also by deterministic operations."""
    fault = import_module("wide").padded_to_full_length
    try:
        with fault(tiny_configuration("nowhere.run")):
            ran = run_small("lora", backend="cpu-deterministic", recipe="thrifty-sft")
    finally:
        torch.use_deterministic_algorithms(False)
    assert ran.failed == {"padding"}
    (known,) = ran.evidence.all(Determinants)
    assert known.values["deterministic_algorithms"] is True
