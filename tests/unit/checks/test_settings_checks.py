"""What the checks of settings make of rates, updates, gradients, devices and precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tunematrix.checks.settings import scheduled_rate
from tunematrix.evidence.events import (
    AdapterDropout,
    AdapterScale,
    Compiled,
    Compute,
    Device,
    LayerScale,
    LoggedStep,
    MicroBatch,
    OptimizerStep,
    Switches,
)

if TYPE_CHECKING:
    from tests.unit.conftest import Run


@pytest.mark.parametrize(
    ("scheduler", "rates"),
    [
        # Ten steps, four of them warm-up, to a peak of 0.8: six steps are left to fall in.
        ("constant", [0.0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8]),
        ("linear", [0.0, 0.2, 0.4, 0.6, 0.8, 4 / 6, 3.2 / 6, 0.4, 1.6 / 6, 0.8 / 6]),
        # 0.4 (1 + cos 30°, 60°, 90°, 120°, 150°)
        ("cosine", [0.0, 0.2, 0.4, 0.6, 0.8, 0.7464102, 0.6, 0.4, 0.2, 0.0535898]),
    ],
)
def test_schedules_with_warm_up(run: Run, scheduler: str, rates: list[float]) -> None:
    """Each step's rate against values worked out by hand."""
    claim = run.configured(
        train={"max_steps": 10, "warmup_steps": 4, "learning_rate": 0.8},
        scheduler={"name": scheduler},
    ).claim
    found = [scheduled_rate(claim, step) for step in range(10)]
    assert found == pytest.approx(rates, abs=1e-7)


@pytest.mark.parametrize(
    ("scheduler", "rates"),
    [
        ("constant", [1.0, 1.0, 1.0, 1.0]),
        ("linear", [1.0, 0.75, 0.5, 0.25]),
        ("cosine", [1.0, 0.8535534, 0.5, 0.1464466]),
    ],
)
def test_schedules_without_warm_up(run: Run, scheduler: str, rates: list[float]) -> None:
    """The first step has the peak, and the last has not come down to 0."""
    claim = run.configured(train={"learning_rate": 1.0}, scheduler={"name": scheduler}).claim
    assert [scheduled_rate(claim, step) for step in range(4)] == pytest.approx(rates, abs=1e-7)


def test_schedule_that_is_all_warm_up(run: Run) -> None:
    """It ends below its peak, and nothing divides by the steps that are left."""
    claim = run.configured(train={"warmup_steps": 4}, scheduler={"name": "linear"}).claim
    assert scheduled_rate(claim, 3) == pytest.approx(0.0075)
    assert scheduled_rate(claim, 4) == pytest.approx(0.01)


@pytest.mark.parametrize("sign", [1, -1])
def test_learning_rate_at_its_tolerance(run: Run, sign: int) -> None:
    """A millionth of the peak, above and below."""
    for share, passes in ((0.9e-6, True), (1.1e-6, False)):
        changed = run.edited(OptimizerStep, 1, learning_rates=(0.01 * (1 + sign * share),))
        assert ("learning_rate" not in changed.failed()) is passes


def test_learning_rate_of_every_group(run: Run) -> None:
    """A second group that keeps another rate is seen, wherever it stands."""
    for rates in ((0.01, 0.02), (0.02, 0.01)):
        assert "learning_rate" in run.edited(OptimizerStep, 3, learning_rates=rates).failed()


def test_learning_rate_of_a_linear_schedule_that_was_ignored(run: Run) -> None:
    """Rates that stay at the peak are no fall, though the loss would look the same."""
    linear = run.configured(scheduler={"name": "linear"})
    verdict = linear.verdicts()["learning_rate"]
    assert verdict.outcome == "failed"
    assert "step 3 used 0.01, linear from 0.01" in verdict.message
    assert "asks for 0.0025" in verdict.message


@pytest.mark.parametrize("is_next", [False, True])
@pytest.mark.parametrize("late", [-1, 0, 1, 2])
def test_logged_rates_before_or_after_the_schedulers_step(
    run: Run, late: int, is_next: bool
) -> None:
    """Releases differ in which of two they log; a rate of another step is nobody's."""
    linear = run.configured(scheduler={"name": "linear"})
    for position, step in enumerate(range(1, 5)):
        rate = scheduled_rate(linear.claim, max(step - 1 + late, 0))
        changes = {"learning_rate": rate, "rate_is_next": is_next}
        linear = linear.edited(LoggedStep, position, **changes)
    assert ("logged_rate" not in linear.failed()) is (late == is_next)


def test_a_log_that_counts_from_zero(run: Run) -> None:
    """It breaks nothing here; whoever counts steps sees it."""
    for position in range(4):
        run = run.edited(LoggedStep, position, step=position)
    assert "logged_rate" not in run.failed()
    assert run.failed()


def test_rates_that_are_not_logged(run: Run) -> None:
    """Nothing is owed; one that is logged is held to the schedule."""
    for position in range(4):
        run = run.edited(LoggedStep, position, learning_rate=None)
    assert "logged_rate" not in run.verdicts()


def test_fewer_steps_than_asked_for(run: Run) -> None:
    """Each rate is right, but training ended early."""
    short = run.recording(*run.evidence.all(OptimizerStep)[:3])
    verdict = short.verdicts()["learning_rate"]
    assert verdict.outcome == "failed"
    assert "3 of 4 steps" in verdict.message


def test_a_step_of_no_parameter_group(run: Run) -> None:
    """An optimizer that holds nothing has no rate to vouch for."""
    assert run.edited(OptimizerStep, 2, learning_rates=()).failed() == {"learning_rate"}


def test_a_learning_rate_of_zero(run: Run) -> None:
    """Where 0 is asked for, 0 is right and anything else isn't."""
    zero = run.configured(train={"learning_rate": 0.0})
    steps = run.evidence.all(OptimizerStep)
    still = zero.recording(*(OptimizerStep(s.step, (0.0,), 1.0, None) for s in steps))
    assert "learning_rate" not in still.failed()
    assert "learning_rate" in zero.failed()


@pytest.mark.parametrize(
    "seen",
    [
        Device({"cpu": 40, "meta": 8}, ("cpu",)),
        Device({"cpu": 48}, ("cuda",)),
        Device({"cpu": 48}, ()),
        Device({}, ("cpu",)),
    ],
)
def test_device_of_parameters_and_activations(run: Run, seen: Device) -> None:
    """Both must have been seen, and both only where they were asked for."""
    assert run.recording(seen).failed() == {"device"}


def test_devices_are_shown_in_order(run: Run) -> None:
    """All of them, each once."""
    seen = Device({"mps": 1, "cuda": 1, "meta": 1, "cpu": 1}, ("xpu", "cpu"))
    verdict = run.recording(seen).verdicts()["device"]
    assert verdict.measured == "cpu, cuda, meta, mps, xpu"


def test_the_wrong_device_throughout(run: Run) -> None:
    """A run that fell back to the CPU as a whole is no run on the GPU."""
    verdict = run.configured(backend={"device": "cuda"}).verdicts()["device"]
    assert (verdict.outcome, verdict.measured, str(verdict.bound)) == ("failed", "cpu", "cuda")


@pytest.mark.parametrize("products", [(), ("float16",), ("bfloat16", "float32")])
def test_precision_of_every_product(run: Run, products: tuple[str, ...]) -> None:
    """Exactly the promised dtype, nothing beside it, and at least something."""
    assert run.edited(Compute, products=products).failed() == {"precision"}


def test_half_precision_where_it_was_asked_for(run: Run) -> None:
    """bfloat16 passes under bf16, float32 doesn't."""
    half = run.configured(precision={"compute": "bfloat16"})
    assert half.failed() == {"precision"}
    assert half.edited(Compute, products=("bfloat16",)).failed() == set()


@pytest.mark.parametrize(
    ("settings", "factor"),
    [
        ({"rank": 8, "alpha": 16}, 2.0),
        ({"rank": 16, "alpha": 8}, 0.5),
        ({"rank": 16, "alpha": 8, "use_rslora": True}, 2.0),
        ({"rank": 8, "alpha": 16, "use_rslora": False}, 2.0),
    ],
)
def test_adapter_scale_by_rank(run: Run, settings: dict[str, float], factor: float) -> None:
    """alpha over the rank, or over its root; 2 % of it are tolerated on either side."""
    method = run.configured(method={"implementation": settings})
    for share, passes in ((1.019, True), (0.981, True), (1.021, False), (0.979, False)):
        for measured in ((factor, factor * share), (factor * share, factor)):
            layers = [LayerScale(f"layer{n}", one) for n, one in enumerate(measured)]
            found = method.recording(AdapterScale(tuple(layers))).failed()
            assert ("adapter_scale" not in found) is passes


@pytest.mark.parametrize(
    "settings", [{}, {"rank": 8, "alpha": 16, "use_dora": True}], ids=["full", "dora"]
)
def test_adapter_scale_where_there_is_none(run: Run, settings: dict[str, object]) -> None:
    """Full training has no adapter, and DoRA's magnitudes rescale its whole product."""
    method = run.configured(method={"implementation": settings}).without(AdapterScale)
    assert "adapter_scale" not in method.verdicts()


def test_switches_that_nobody_read_again(run: Run) -> None:
    """As the backend left them they vouch for nothing: a step has to have looked."""
    for changed in (run.edited(Switches, steps=0), run.edited(Switches, begun={})):
        assert changed.verdicts()["switches"].measured is None
        assert changed.failed() == {"switches"}


def test_models_that_no_kernel_attends_for(run: Run) -> None:
    """Nothing is owed then."""
    assert "attention_kernel" not in run.edited(Compute, attention=None).verdicts()


@pytest.mark.parametrize(
    ("seen", "measured"),
    [
        (Compiled(passes=8, idle=0, products=45, outside=0), 0.0),
        (Compiled(passes=8, idle=0, products=45, outside=11), 11 / 45),
        (Compiled(passes=8, idle=0, products=45, outside=23), 23 / 45),
        (Compiled(passes=8, idle=8, products=45, outside=41), 41 / 45),
        (Compiled(passes=8, idle=1, products=45, outside=0), 0.0),
        (Compiled(passes=0, idle=0, products=45, outside=0), None),
        (Compiled(passes=8, idle=0, products=None, outside=0), None),
    ],
)
def test_what_ran_compiled(run: Run, seen: Compiled, measured: float | None) -> None:
    """Every pass has to leave a graph with most of its products in it; DoRA's has not all."""
    assert "compiled" not in run.recording(seen).verdicts()
    verdict = run.configured(train={"compile": "aot_eager"}).recording(seen).verdicts()["compiled"]
    assert verdict.measured == measured
    passes = measured is not None and measured < 0.5 and not seen.idle
    assert verdict.outcome == ("passed" if passes else "failed")


def test_what_is_compiled_without_a_reading(run: Run) -> None:
    """Nothing read is nothing good."""
    assert "compiled" in run.configured(train={"compile": "aot_eager"}).failed()


def test_nothing_is_said_of_layers_that_nobody_sees(run: Run) -> None:
    """Where a model is compiled, checks of what happens inside of layers aren't made."""
    inside = {"gradient_checkpointing", "precision", "adapter_dropout"}
    nothing = run.without(AdapterDropout).edited(Compute, products=())
    for place in range(len(nothing.evidence.all(MicroBatch))):
        nothing = nothing.edited(MicroBatch, place, layer_calls=())
    assert inside <= nothing.failed()
    compiled = nothing.configured(train={"compile": "aot_eager"})
    assert not inside & set(compiled.verdicts())
