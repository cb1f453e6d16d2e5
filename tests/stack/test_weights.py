"""Bases that aren't what was asked for, adapters off their formula, models saved as another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn
from mlx_lm.tuner.dora import DoRALinear

from tunematrix.configuration.theory import Rounding
from tunematrix.evidence.events import AdapterFormula, BaseWeights, GroupScales, SavedSettings
from tunematrix.faults import adapter_layers, checkpoints, memory, quantizers
from tunematrix.faults.patching import replaced
from tunematrix.stack.yardsticks import group_scales, rounding

if TYPE_CHECKING:
    from tests.stack.conftest import RunSmall

Fault = Callable[[Mapping[str, Any]], AbstractContextManager[None]]

HONEST: list[dict[str, object]] = [
    {"quantizer": "hqq-int4"},
    {"quantizer": "bnb-nf4", "method": "dora"},
    {"quantizer": "bnb-int8"},
    {"quantizer": "torchao-int8", "precision": "bf16"},
    {"model": "untied-llama", "method": "full"},
    {"model": "toy-qwen", "method": "custom-lora"},
    {"backend": "mlx", "method": "dora", "quantizer": "mlx-int4"},
    {"backend": "mlx", "quantizer": "mlx-int8", "precision": "bf16"},
]
OF_A_MODEL = {"base_weights", "base_products", "adapter_formula", "saved_settings", "activations"}


@pytest.mark.each_time(3)
@pytest.mark.parametrize("settings", HONEST, ids=str)
def test_honest_bases_and_adapters(run_small: RunSmall, settings: dict[str, object]) -> None:
    """Every layer is compared, and agrees."""
    ran = run_small(**settings)
    assert ran.failed & OF_A_MODEL == set()
    seen = ran.evidence.one(BaseWeights)
    assert seen is not None
    products, layers = ({name for name, *_ in rows} for rows in (seen.products, seen.layers))
    assert len(products) == 14
    packed = str(settings.get("quantizer")).startswith("mlx")
    assert layers - products == ({"model.embed_tokens"} if packed else set())
    assert len(seen.others) >= 5


@pytest.mark.each_time(3)
@pytest.mark.parametrize(
    ("fault", "settings", "check"),
    [
        (quantizers.rounded_without_optimizing, {"quantizer": "hqq-int4"}, "base_weights"),
        (quantizers.another_code_of_four_bits, {"quantizer": "bnb-nf4"}, "base_weights"),
        (quantizers.one_scale_for_all_rows, {"quantizer": "quanto-int8"}, "base_weights"),
        (quantizers.backward_through_other_weights, {"quantizer": "bnb-nf4"}, "base_products"),
        (adapter_layers.dora_norm_in_the_gradient, {"method": "dora"}, "adapter_formula"),
        (checkpoints.end_of_texts_not_saved, {"method": "full"}, "saved_settings"),
        (
            memory.recomputed_and_kept,
            {"train__gradient_checkpointing": True, "train__max_steps": 6},
            "activations",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_fault_is_seen(
    run_small: RunSmall, fault: Fault, settings: dict[str, object], check: str
) -> None:
    """By its own check, on a value that was measured."""
    with fault({}):
        ran = run_small(**settings)
    assert check in ran.failed
    assert ran.verdicts[check].measured is not None


@contextmanager
def _coarser() -> Iterator[None]:
    """Let MLX round to 3 bits what is to have 4."""

    def wrap(original: Any) -> Any:
        def quantize(weight: mx.array, group_size: int, bits: int, **more: Any) -> Any:
            coarse = original(weight, group_size, bits - 1, **more)
            return original(mx.dequantize(*coarse, group_size, bits - 1), group_size, bits, **more)

        return quantize

    with replaced(mx, "quantize", wrap):
        yield


@contextmanager
def _scaled_magnitude() -> Iterator[None]:
    """Let DoRA's outputs be 1 % too large."""

    def wrap(original: Any) -> Any:
        return lambda layer, rows: original(layer, rows) * 1.01

    with replaced(DoRALinear, "__call__", wrap):
        yield


@contextmanager
def _slanted_products() -> Iterator[None]:
    """Let quantized layers add a little of their input's mean."""

    def wrap(original: Any) -> Any:
        def multiply(layer: nn.QuantizedLinear, rows: mx.array) -> mx.array:
            return original(layer, rows) + 0.1 * rows.mean(axis=-1, keepdims=True)

        return multiply

    with replaced(nn.QuantizedLinear, "__call__", wrap):
        yield


@pytest.mark.each_time(1)
@pytest.mark.parametrize(
    ("fault", "settings", "check"),
    [
        (_coarser, {"quantizer": "mlx-int4"}, "base_weights"),
        (_slanted_products, {"quantizer": "mlx-int4"}, "base_products"),
        (_scaled_magnitude, {"method": "dora"}, "adapter_formula"),
    ],
)
def test_each_fault_is_seen_in_mlx(
    run_small: RunSmall,
    fault: Callable[[], AbstractContextManager[None]],
    settings: dict[str, object],
    check: str,
) -> None:
    """By the same checks."""
    with fault():
        ran = run_small(**{"backend": "mlx", **settings})
    assert check in ran.failed


def test_settings_of_what_is_saved(run_small: RunSmall) -> None:
    """Looked at beside a whole model and beside an adapter, and in the trainer's checkpoints."""
    whole, adapter = run_small(method="full"), run_small(method="lora")
    resumed = run_small(train__interrupt_at=2)
    for ran, folders in (
        (whole, ["model"]),
        (adapter, ["model"]),
        (resumed, ["model", "checkpoint-2"]),
    ):
        seen = ran.evidence.all(SavedSettings)
        assert ([one.folder for one in seen], {one.changed for one in seen}) == (folders, {()})
    assert len(adapter.evidence.all(AdapterFormula)[0].layers) == 14


@pytest.mark.parametrize(
    ("form", "error"),
    [
        (Rounding(code="range", bits=2, group_size=4), 0.0),
        (Rounding(code="absmax", bits=2, group_size=4), (0.5 / 1.5) ** 0.5),
        (None, 0.0),
    ],
)
def test_plain_rounding_by_hand(form: Rounding | None, error: float) -> None:
    """Even levels lose nothing of even values; three levels lose what lies between them."""
    weight = np.array([[-1.0, -0.5, 0.0, 0.5], [-1.0, -0.5, 0.0, 0.5]], dtype=np.float32)
    assert rounding.error(weight, form) == pytest.approx(error, abs=1e-6)


def test_nf4_keeps_its_own_levels() -> None:
    """And moves what lies between two of them to the nearer one."""
    form = Rounding(code="nf4", bits=4, group_size=16)
    assert rounding.error(rounding.NF4.reshape(1, 16), form) == 0
    moved = rounding.NF4 + np.float32(0.01) * (np.arange(16) == 7)
    assert 0 < rounding.error(moved.reshape(1, 16), form) < 0.01


def test_groups_of_equal_values() -> None:
    """A group without a range is no division by zero."""
    equal = np.zeros((2, 4), dtype=np.float32)
    for code in ("range", "edge", "absmax", "halves", "nf4"):
        form = Rounding.model_validate({"code": code, "bits": 4, "group_size": 4})
        assert rounding.error(equal, form) == 0
        assert group_scales.measure("layer", equal, equal, form) == GroupScales("layer", 0, 0)


@pytest.mark.parametrize("code", ["range", "edge", "absmax", "halves", "nf4"])
@pytest.mark.parametrize("bits", [4, 8])
def test_scales_are_read_off_stored_weights(code: str, bits: int) -> None:
    """Of one group in 512, whatever its format; and of all of them."""
    form = Rounding.model_validate({"code": code, "bits": bits, "group_size": 64})
    weight = np.random.default_rng(0).normal(size=(256, 128)).astype(np.float32)
    groups = rounding.split(weight, form)
    stored = rounding.plainly(groups, form)
    seen = group_scales.measure("layer", stored.reshape(weight.shape), weight, form)
    assert max(abs(seen.worst), abs(seen.mean), seen.spread, seen.ends) < 1e-5
    assert seen.groups == len(groups)
    for size in (0.95, 1.01):
        odd = stored.copy()
        odd[-1] *= size
        seen = group_scales.measure("layer", odd.reshape(weight.shape), weight, form)
        assert seen.worst == pytest.approx(size - 1, abs=1e-5)
    seen = group_scales.measure("layer", stored.reshape(weight.shape) * 1.01, weight, form)
    assert seen.mean == pytest.approx(0.01, abs=1e-5)


def test_an_end_that_is_cut_off() -> None:
    """A range that is moved by half a step leaves out what lies at one end."""
    form = Rounding(code="range", bits=4, group_size=64)
    weight = np.random.default_rng(0).normal(size=(256, 128)).astype(np.float32)
    groups = rounding.split(weight, form)
    low, step = groups.min(1, keepdims=True), rounding.steps(groups, form)
    places = np.clip(np.round((groups - low) / step + 0.5), 0, 15)
    moved = (low + (places - 0.5) * step).reshape(weight.shape)
    assert group_scales.measure("layer", moved, weight, form).ends == pytest.approx(0.5, abs=0.01)


def test_short_rows_are_groups_of_their_own() -> None:
    """Where a library has it so, and nowhere else."""
    weight = np.zeros((4, 64), dtype=np.float32)
    for within, groups in ((True, 4), (False, 2)):
        form = Rounding(code="range", bits=4, group_size=128, within_rows=within)
        assert len(rounding.split(weight, form)) == groups
