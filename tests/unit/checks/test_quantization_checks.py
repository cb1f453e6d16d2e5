from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tunematrix.checks.quantization import plain_bits, theoretical_bits
from tunematrix.configuration.theory import Theory
from tunematrix.evidence.events import BaseWeights, GroupScales, LogitError, Storage
from tunematrix.paths import shipped_configs

if TYPE_CHECKING:
    from tests.unit.conftest import Run

ROWS, COLUMNS = 256, 128
WEIGHTS = ROWS * COLUMNS
FLOAT, HALF = 4, 2

# Bytes of one (256, 128) layer, from how each library lays out what it stores; the second figure
# of a pair is for a base in half precision, where scales and zero points are halves too.
BYTES = {
    "none": (WEIGHTS * FLOAT, WEIGHTS * HALF),
    # Two values a byte; an 8-bit scale for 64 of them; a float for 256 scales; per layer a code
    # table of 16 floats, one of 256 for the scales, and their offset.
    "bnb-nf4": (WEIGHTS // 2 + WEIGHTS // 64 + 2 * FLOAT + (16 + 256 + 1) * FLOAT,) * 2,
    # A float for each row, whatever the base.
    "bnb-int8": (WEIGHTS + ROWS * FLOAT,) * 2,
    # A scale and a zero point for 64 values.
    "hqq-int4": (WEIGHTS // 2 + WEIGHTS // 64 * 2 * FLOAT, WEIGHTS // 2 + WEIGHTS // 64 * 2 * HALF),
    "hqq-int8": (WEIGHTS + WEIGHTS // 64 * 2 * FLOAT, WEIGHTS + WEIGHTS // 64 * 2 * HALF),
    # A scale and a shift for 128 values; an input and an output scale.
    "quanto-int4": (
        WEIGHTS // 2 + WEIGHTS // 128 * 2 * FLOAT + 2 * FLOAT,
        WEIGHTS // 2 + WEIGHTS // 128 * 2 * HALF + 2 * HALF,
    ),
    "quanto-int8": (WEIGHTS + ROWS * FLOAT + 2 * FLOAT, WEIGHTS + ROWS * HALF + 2 * HALF),
    # One value a byte even of 4 bits; a scale and a zero point of one byte for 32 values.
    "torchao-int4": (WEIGHTS + WEIGHTS // 32 * (FLOAT + 1), WEIGHTS + WEIGHTS // 32 * (HALF + 1)),
    "torchao-int8": (WEIGHTS + ROWS * (FLOAT + 1), WEIGHTS + ROWS * (FLOAT + 1)),
}

# What real runs recorded for such a layer over a float32 base.
RECORDED = {
    "none": 131_072,
    "bnb-nf4": 17_996,
    "bnb-int8": 33_792,
    "hqq-int4": 20_480,
    "hqq-int8": 36_864,
    "quanto-int4": 18_440,
    "quanto-int8": 33_800,
    "torchao-int4": 37_888,
    "torchao-int8": 34_048,
}


def _theory(quantizer: str) -> Theory:
    file = shipped_configs() / "quantizer" / f"{quantizer}.yaml"
    return Theory(**yaml.safe_load(file.read_text(encoding="utf-8"))["theory"])


def _promised(run: Run) -> dict[str, Any]:
    assert run.config.quantizer.theory is not None
    return run.config.quantizer.theory.model_dump()


@pytest.mark.parametrize("quantizer", BYTES)
def test_theoretical_bits(quantizer: str) -> None:
    """Each quantizer's theory gives the bytes counted by hand, over floats and over halves."""
    theory = _theory(quantizer)
    for size, plain in zip(BYTES[quantizer], (32, 16), strict=True):
        bits = theoretical_bits(theory, (ROWS, COLUMNS), plain)
        assert bits * WEIGHTS / 8 == pytest.approx(size, rel=1e-12)
    assert BYTES[quantizer][0] == RECORDED[quantizer]


def test_every_shipped_quantizer_is_counted() -> None:
    """A new quantizer needs its bytes worked out above."""
    shipped = {path.stem for path in (shipped_configs() / "quantizer").glob("*.yaml")}
    assert {name for name in shipped if not name.startswith("mlx-")} == set(BYTES)


def test_rows_are_those_of_the_output() -> None:
    """(out, in): scales by row weigh more on a layer with short rows."""
    by_row = Theory(weight_bits=8, row_bits=32)
    assert theoretical_bits(by_row, (128, 256), 32) == pytest.approx(8 + 32 / 256)
    assert theoretical_bits(by_row, (256, 128), 32) == pytest.approx(8 + 32 / 128)


@pytest.mark.parametrize(
    ("trains_base", "weights", "bits"),
    [
        (False, "float32", 32),
        (False, "bfloat16", 16),
        (False, "float16", 16),
        (True, "float16", 32),
    ],
)
def test_plain_bits(run: Run, trains_base: bool, weights: str, bits: int) -> None:
    """Unquantized weights have the precision's dtype, but what is trained whole stays float32."""
    cell = run.configured(method={"trains_base": trains_base}, precision={"weights": weights})
    assert plain_bits(cell.claim) == bits


@pytest.mark.parametrize(
    ("size", "passes"), [(0.9905, True), (1.0095, True), (0.9895, False), (1.0105, False)]
)
def test_stored_bits_at_their_tolerance(run: Run, size: float, passes: bool) -> None:
    """1 % on either side, in each layer, wherever it stands."""
    first, second = ("q_proj", (128, 128), 9544), ("up_proj", (256, 128), 17_996)
    odd: tuple[Any, ...] = ("down_proj", (256, 128), round(17_996 * size))
    for layers in ((odd, first, second), (first, odd, second), (first, second, odd)):
        found = run.edited(Storage, layers=layers).failed()
        assert ("stored_bits" not in found) is passes


def test_the_worst_layer_is_shown(run: Run) -> None:
    """Many right layers don't hide one that stayed as it was."""
    right = tuple((f"layer {i}", (128, 128), 9544) for i in range(50))
    layers = (*right, ("lm_head", (128, 128), 65_536))
    verdict = run.edited(Storage, layers=layers).verdicts()["stored_bits"]
    assert (verdict.outcome, verdict.measured) == ("failed", 32.0)
    assert verdict.message.startswith("lm_head stores 32.000 bits per weight")
    assert str(verdict.bound).endswith("the worst of 51 layers")


def test_storage_of_no_layer(run: Run) -> None:
    """A meter that found no linear layer measured nothing."""
    assert run.edited(Storage, layers=()).verdicts()["stored_bits"].measured is None
    assert run.edited(Storage, layers=()).failed() == {"stored_bits"}


@pytest.mark.parametrize(
    ("relative", "passes"),
    [
        (0.25, True),
        (0.2500101, False),
        (0.025, True),
        (0.024, False),
        (0.0, False),
        (math.nan, False),
    ],
)
def test_logit_error_of_a_quantizer(run: Run, relative: float, passes: bool) -> None:
    """Theory and rounding together are the bound; hardly any error is suspicious, or none."""
    changed = run.recording(LogitError(relative))
    assert ("logit_error" not in changed.failed()) is passes
    # Where the spec has a bound of its own, only no error at all is.
    own = changed.asked(logit_error={"max": 0.9})
    assert ("logit_error" not in own.failed()) is (relative > 0)


def test_logits_that_quantizing_did_not_change(run: Run) -> None:
    """Its message is another one."""
    message = run.recording(LogitError(0.0)).verdicts()["logit_error"].message
    assert message == "logits equal the original's bit for bit: nothing was quantized"
    own = run.recording(LogitError(0.0)).asked(logit_error={"max": 0.4})
    assert own.failed() == {"logit_error"}


def test_logit_error_without_a_quantizer(run: Run) -> None:
    """Nothing but rounding is allowed then, and no rounding at all is fine."""
    plain = run.configured(quantizer={"theory": {}})
    for relative, passes in ((0.0, True), (1e-5, True), (1.1e-5, False)):
        found = plain.recording(LogitError(relative)).failed()
        assert ("logit_error" not in found) is passes


def test_logit_error_by_the_bound_of_the_spec(run: Run) -> None:
    """It takes the place of theory and rounding, and is itself allowed."""
    own = run.asked(logit_error={"max": 0.4})
    for relative, passes in ((0.4, True), (0.401, False), (math.nan, False), (math.inf, False)):
        assert ("logit_error" not in own.recording(LogitError(relative)).failed()) is passes


def test_a_quantizer_without_a_theory_is_not_believed(run: Run) -> None:
    """None at all must not read as a promise of nothing."""
    verdict = run.configured(quantizer={"name": "mine", "theory": None}).verdicts()["stored_bits"]
    assert verdict.outcome == "failed"
    assert "quantizer/mine.yaml" in verdict.message


@pytest.mark.parametrize(
    ("error", "path", "passes"),
    [
        (0.0912, "toyworld://base", True),
        (0.0860, "toyworld://base", False),
        (0.0940, "toyworld://base", False),
        (0.0940, "models/mine", True),
        (0.1141, "models/mine", False),
        (float("nan"), "models/mine", False),
    ],
)
def test_weights_are_rounded_as_their_format_has_it(
    run: Run, error: float, path: str, passes: bool
) -> None:
    """3 % more than plain rounding, 5 % less; a user's own model is given more room."""
    cell = run.configured(model={"path": path})
    found = cell.edited(BaseWeights, layers=(("q_proj", error, 0.0912),)).failed()
    assert ("base_weights" not in found) is passes


@pytest.mark.parametrize(
    ("dtype", "error", "passes"),
    [
        ("float32", 2e-7, True),
        ("float32", 1e-4, False),
        ("bfloat16", 3e-3, True),
        ("bfloat16", 5e-3, False),
        ("float16", 4e-4, True),
        ("float16", 6e-4, False),
    ],
)
def test_what_is_not_quantized_is_only_cast(
    run: Run, dtype: str, error: float, passes: bool
) -> None:
    """Norms, embeddings and the head stay the checkpoint's."""
    cell = run.configured(precision={"weights": dtype, "compute": dtype})
    found = cell.edited(BaseWeights, others=(("norm", 0.0), ("head", error))).failed()
    assert ("base_weights" not in found) is passes


@pytest.mark.parametrize(
    ("path", "error", "passes"),
    [
        ("toyworld://base", 0.179, True),
        ("toyworld://base", 0.181, False),
        ("/models/mine", 0.359, True),
        ("/models/mine", 0.361, False),
        ("/models/mine", float("nan"), False),
    ],
)
def test_a_group_of_a_weight(run: Run, path: str, error: float, passes: bool) -> None:
    """One that is twice as far off as plain rounding is told, whatever the layer as a whole is."""
    cell = run.configured(model={"path": path})
    verdict = cell.edited(BaseWeights, groups=(("q_proj", error, 0.09),)).verdicts()["base_weights"]
    assert (verdict.outcome == "passed") is passes
    assert passes or "a group of q_proj" in verdict.message


def test_groups_that_nobody_looked_at(run: Run) -> None:
    """Where a format is declared, they are owed."""
    assert run.edited(BaseWeights, groups=()).verdicts()["base_weights"].measured is None


def test_an_infinite_error_and_no_tensor_at_all(run: Run) -> None:
    """A head that can't be compared fails; so does a base of which nothing was compared."""
    assert "base_weights" in run.edited(BaseWeights, others=(("head", float("inf")),)).failed()
    nothing = run.edited(BaseWeights, layers=(), products=(), others=())
    for check in ("base_weights", "base_products"):
        assert nothing.verdicts()[check].measured is None
        assert check in nothing.failed()


def test_products_of_rounded_activations(run: Run) -> None:
    """LLM.int8 rounds what it multiplies, forwards alone."""
    cell = run.configured(quantizer={"theory": {**_promised(run), "activation_bits": 8}})
    forward = cell.edited(BaseWeights, products=(("q_proj", 7e-3, 2e-7),))
    backward = cell.edited(BaseWeights, products=(("q_proj", 7e-3, 7e-3),))
    assert "base_products" not in forward.failed()
    assert "base_products" in backward.failed()


def test_a_quantizer_of_which_no_format_is_known(run: Run) -> None:
    """Its weights aren't judged; what it leaves alone is."""
    unknown = run.configured(quantizer={"theory": {**_promised(run), "rounding": None}})
    cell = unknown.edited(BaseWeights, groups=())
    assert "base_weights" not in cell.edited(BaseWeights, layers=(("a", 9.0, 0.0),)).failed()
    assert "base_weights" in cell.edited(BaseWeights, others=(("norm", 0.1),)).failed()


@pytest.mark.parametrize(
    ("rounding", "weights", "ends", "failed"),
    [
        ({"code": "range"}, "float32", 0.01, False),
        ({"code": "range"}, "float32", 0.25, True),
        ({"code": "range"}, "float32", math.nan, True),
        ({"code": "range"}, "bfloat16", 0.1, False),  # as much as casts explain
        ({"code": "range", "ratio": (0.93, 0.99)}, "float32", 0.25, False),  # looks for better ends
        ({"code": "edge"}, "float32", 0.25, False),  # has no level at one of them
    ],
)
def test_ends_of_groups(
    run: Run, rounding: dict[str, Any], weights: str, ends: float, failed: bool
) -> None:
    """They are held to their levels in float32, where the format has levels there."""
    given = {"bits": 4, "group_size": 128, **rounding}
    scales = (GroupScales("q_proj", 0.0, 0.0, 0.0, 128, ends),)
    asked = run.configured(
        quantizer={"theory": {"rounding": given}}, precision={"weights": weights}
    )
    verdict = asked.edited(BaseWeights, scales=scales).verdicts().get("group_ends")
    assert (verdict is not None and verdict.outcome == "failed") is failed
    assert (verdict is None) is (rounding != {"code": "range"})


def test_no_group_without_an_end(run: Run) -> None:
    """What nobody read is missing."""
    rounding = {"code": "range", "bits": 4, "group_size": 128}
    asked = run.configured(quantizer={"theory": {"rounding": rounding}})
    verdict = asked.edited(BaseWeights, scales=()).verdicts()["group_ends"]
    assert "no reading of ends of groups" in verdict.message
