"""The quantizer that CONTRIBUTING.md shows works as it is printed, beside a library for it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tunematrix.paths import shipped_configs

if TYPE_CHECKING:
    from tests.stack.conftest import RunSmall

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"
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
    """The page's config beside the shipped ones; its module and the library can be imported."""
    text = PAGE.read_text(encoding="utf-8")
    config, module = (
        next(
            block for block in re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL) if word in block
        )
        for kind, word in (("yaml", "name: zipq-int6"), ("python", "class ZipQ"))
    )
    (tmp_path / "zipq.py").write_text(ZIPQ, encoding="utf-8")
    (tmp_path / "zipq_quantizer.py").write_text(module, encoding="utf-8")
    folder = tmp_path / "configs" / "quantizer"
    folder.mkdir(parents=True)
    target = config.replace("tunematrix.stack.quantizers.zipq.", "zipq_quantizer.")
    (folder / "zipq-int6.yaml").write_text(target, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    _forget_modules()
    yield [shipped_configs(), folder.parent]
    _forget_modules()


def _forget_modules() -> None:
    """Other tests have modules of these names, too."""
    for name in ("zipq", "zipq_quantizer"):
        sys.modules.pop(name, None)


def test_the_quantizer_of_the_page(run_small: RunSmall) -> None:
    """Plain PyTorch trains an adapter over it, and every check that it promises to meet holds."""
    ran = run_small("custom-lora", quantizer="zipq-int6")
    assert {"stored_bits", "base_weights", "base_products", "logit_error"} <= set(ran.verdicts)
    assert ran.failed == set()
