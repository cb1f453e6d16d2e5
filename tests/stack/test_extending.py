"""What docs/extending.md shows works as it is printed: each of its files is written out and used."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tunematrix.checks.registry import assembled, checks_of
from tunematrix.paths import shipped_configs

if TYPE_CHECKING:
    from tests.stack.conftest import RunSmall

PAGE = Path(__file__).parents[2] / "docs/extending.md"
FILE = re.compile(r"`([\w./-]+\.(?:py|yaml))`[^`]*```(?:python|yaml)\n(.*?)```", re.DOTALL)
"""A file's name, and the next block, which is the file."""
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
    """The page's options beside the shipped ones; its modules and the library can be imported."""
    files = {"zipq.py": ZIPQ, **dict(FILE.findall(PAGE.read_text(encoding="utf-8")))}
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    modules = [Path(name).stem for name in files if name.endswith(".py")]
    monkeypatch.syspath_prepend(str(tmp_path))
    _forget(modules)
    yield [shipped_configs(), tmp_path / "configs"]
    _forget(modules)


def _forget(modules: list[str]) -> None:
    """Other tests have modules of these names, too."""
    for name in modules:
        sys.modules.pop(name, None)


def test_the_quantizer(run_small: RunSmall) -> None:
    """Plain PyTorch trains an adapter over it, and every check that it promises to meet holds."""
    ran = run_small("custom-lora", quantizer="zipq-int6")
    assert {"stored_bits", "base_weights", "base_products", "logit_error"} <= set(ran.verdicts)
    assert ran.failed == set()


def test_the_method(run_small: RunSmall) -> None:
    ran = run_small("lora-fa")
    print(ran.failed, {k: v for k, v in ran.verdicts.items() if v.outcome!="passed"})
    assert {"trainable", "frozen", "moved", "gradient", "reload"} <= set(ran.verdicts)
    assert ran.failed == set()


def test_the_backend(run_small: RunSmall) -> None:
    ran = run_small("lora", backend="cpu-deterministic")
    assert ran.failed == set()
    print(ran.evidence)
