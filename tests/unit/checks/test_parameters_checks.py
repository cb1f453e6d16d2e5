from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from tunematrix.evidence.events import (
    AdapterShare,
    Arrivals,
    Changed,
    Compute,
    Merged,
    OptimizerStep,
    Reload,
    Trainable,
)

if TYPE_CHECKING:
    from tests.unit.conftest import Run

FIRST, SECOND = "q_proj.lora_A", "q_proj.lora_B"


@pytest.mark.parametrize(
    "seen",
    [
        Trainable((FIRST, SECOND), (FIRST,)),
        Trainable((FIRST,), (FIRST, SECOND)),
        Trainable((FIRST,), (SECOND,)),
        Trainable((FIRST,), ()),
        Trainable((), (FIRST,)),
        Trainable((), ()),
    ],
)
def test_trainable_by_name(run: Run, seen: Trainable) -> None:
    """One too few, one too many, as many of other names, and none at all."""
    assert run.recording(seen).failed() == {"trainable"}


def test_names_are_shown_in_order(run: Run) -> None:
    """The same failure reads the same in every run, whatever the hash seed."""
    names = tuple("hbgcfaed")
    extra = run.recording(Trainable((FIRST,), (FIRST, *names))).verdicts()["trainable"]
    absent = run.recording(Trainable((FIRST, *names), (FIRST,))).verdicts()["trainable"]
    still = run.recording(Changed((FIRST,), names, (), (), 93)).verdicts()["moved"]
    for verdict in (extra, absent, still):
        assert "(a, b, c and 5 more)" in verdict.message


def test_trainable_in_any_order(run: Run) -> None:
    """Names matter, their order doesn't."""
    assert not run.recording(Trainable((FIRST, SECOND), (SECOND, FIRST))).failed()


def _one_step(run: Run, *rates: float) -> Run:
    return run.recording(*(OptimizerStep(i, (r,), 1.0, 0.0) for i, r in enumerate(rates)))


def test_lora_a_needs_a_second_step(run: Run) -> None:
    """lora_B starts at 0, so the first step that has a rate moves it alone."""
    after_one = run.recording(Changed((SECOND,), (FIRST,), (), (), 93))
    assert "moved" in after_one.failed()
    assert "moved" not in _one_step(after_one, 0.01).failed()
    assert "moved" not in _one_step(after_one, 0.0, 0.01).failed()
    assert "moved" in _one_step(after_one, 0.01, 0.01).failed()
    groups = [OptimizerStep(step, (0.0, 0.01), 1.0, 0.0) for step in (0, 1)]
    assert "moved" in after_one.recording(*groups).failed()


def test_lora_b_moves_in_the_first_step(run: Run) -> None:
    """It has no excuse."""
    still = run.recording(Changed((FIRST,), (SECOND,), (), (), 93))
    assert "moved" in _one_step(still, 0.01).failed()


def test_lora_b_that_ends_at_zero(run: Run) -> None:
    """Moved and come back to 0, or replaced by zeros: it adapts nothing."""
    changed = run.evidence.all(Changed)[0]
    verdict = run.edited(Changed, zero=(SECOND,)).verdicts()["moved"]
    assert verdict.outcome == "failed"
    assert f"1 of {len(changed.moved)} trained tensors never moved ({SECOND})" in verdict.message
    assert "moved" not in run.edited(Changed, zero=("norm.bias",)).failed()


def test_nothing_moved_at_all(run: Run) -> None:
    """Not even with an empty list of tensors that didn't."""
    assert run.edited(Changed, moved=()).failed() == {"moved"}


def test_nothing_frozen_was_compared(run: Run) -> None:
    """An adapter leaves a base behind; if none of it was looked at, nothing vouches for it."""
    assert run.edited(Changed, frozen=0).verdicts()["frozen"].measured is None
    assert run.edited(Changed, frozen=0).failed() == {"frozen"}


def test_full_training_leaves_nothing_frozen(run: Run) -> None:
    """Unless something is, and changed."""
    full = run.configured(
        method={"trains_base": True, "implementation": {}}, quantizer={"theory": {}}
    ).edited(Changed, frozen=0)
    assert "frozen" not in full.failed()
    assert "frozen" in full.edited(Changed, frozen=2, altered=("rotary",)).failed()


@pytest.mark.parametrize(
    ("compute", "share"), [("float32", 1e-5), ("float16", 5e-3), ("bfloat16", 8e-2)]
)
def test_reload_at_its_tolerance(run: Run, compute: str, share: float) -> None:
    """A share of what training changed, by the dtype of the arithmetic."""
    cell = run.configured(precision={"compute": compute})
    for factor, passes in ((0.99, True), (1.01, False)):
        changed = cell.edited(Reload, max_difference=13.0 * share * factor)
        assert ("reload" not in changed.failed()) is passes


def test_reload_of_a_model_that_changed_little(run: Run) -> None:
    """A short training changes logits by less than one, and has to be kept all the same."""
    little = run.edited(Reload, max_difference=0.0, changed_by_training=0.01)
    assert not little.failed()
    assert little.edited(Reload, max_difference=1e-6).failed() == {"reload"}


def test_reload_by_the_bound_of_the_spec(run: Run) -> None:
    """It takes the place of the usual one, and is itself allowed."""
    own = run.asked(reload={"max_difference": 0.5})
    for difference, passes in ((0.5, True), (0.501, False), (math.nan, False), (math.inf, False)):
        assert ("reload" not in own.edited(Reload, max_difference=difference).failed()) is passes


@pytest.mark.parametrize("changed", [0.0, math.nan, math.inf])
def test_reload_of_a_model_that_training_did_not_change(run: Run, changed: float) -> None:
    """Saving a base as it was loads again perfectly, and proves nothing."""
    same = run.edited(Reload, max_difference=0.0, changed_by_training=changed)
    assert same.failed() == {"reload"}
    assert "saving and loading had nothing to lose" in same.verdicts()["reload"].message
    assert same.asked(reload={"max_difference": 0.5}).failed() == {"reload"}


def test_an_unknown_dtype_is_allowed_nothing(run: Run) -> None:
    """It fails instead of breaking the judgement of all the other checks."""
    cell = run.edited(Compute, products=("float64",), trainable=("float64",))
    # Of what else is held to it, clipping is equal to the last bit.
    assert cell.failed() == {"arrived", "precision", "optimizer_update", "gradient"}


def test_merge_at_its_bound(run: Run) -> None:
    """A share of what training changed; the bound itself passes."""
    for difference, passes in ((0.26, True), (0.261, False), (math.nan, False)):
        edited = run.edited(Merged, max_difference=difference)
        assert ("merge" not in edited.failed()) is passes


@pytest.mark.parametrize("changed", [0.0, math.nan, math.inf])
def test_merge_of_an_adapter_that_changed_nothing(run: Run, changed: float) -> None:
    """It is as good as no merge."""
    idle = run.edited(Merged, max_difference=0.0, changed_by_training=changed)
    assert idle.failed() == {"merge"}


def test_merge_is_asked_for_by_either_side(run: Run) -> None:
    """By the configuration without a bound, by a bound without the configuration, or by neither."""
    unmerged = run.without(Merged)
    assert run.asked(merge=None).failed() == {"merge"}
    assert unmerged.asked(merge=None).failed() == {"merge", "merged_share", "merged_sum"}
    off = unmerged.configured(meters={"merge": False})
    assert off.failed() == {"merge"}
    assert "merge" not in off.asked(merge=None).verdicts()


@pytest.mark.parametrize(
    ("rounding", "share", "spread", "passes"),
    [
        ({"code": "nf4", "bits": 4, "group_size": 64}, 0.81, 0.004, True),
        ({"code": "nf4", "bits": 4, "group_size": 64}, 0.79, 0.004, False),
        ({"code": "nf4", "bits": 4, "group_size": 64}, 1.0, 0.034, False),
        ({"code": "absmax", "bits": 8}, 0.96, 0.004, True),
        ({"code": "absmax", "bits": 8}, 0.94, 0.004, False),
        (None, 1.0009, 1e-6, True),
        (None, 0.998, 1e-6, False),
        (None, math.nan, 1e-6, False),
    ],
)
def test_the_share_of_an_adapter_that_merging_keeps(
    run: Run, rounding: dict[str, object] | None, share: float, spread: float, passes: bool
) -> None:
    """Once, within what the weights' format can tell; a share that nothing can tell fails."""
    name = "none" if rounding is None else "bnb-nf4"
    cell = run.configured(quantizer={"name": name, "theory": {"rounding": rounding}})
    merged = cell.edited(Merged, shares=(AdapterShare("q_proj", share, spread),))
    assert ("merged_share" not in merged.failed()) is passes


def test_steps_that_nobody_looked_at(run: Run) -> None:
    """Every step has to have been seen; several processes, and MLX, can't be."""
    fewer = run.edited(Arrivals, steps=3)
    assert fewer.failed() == {"arrived", "every_step"}
    several = run.configured(launcher={"processes": 2})
    assert {"arrived", "every_step"} & set(several.verdicts()) == set()


@pytest.mark.parametrize(
    ("lost", "spread", "finds_levels", "passes"),
    [
        (0.0029, 0.0, False, True),
        (-0.0031, 0.0, False, False),
        (0.0069, 1e-3, False, True),
        (0.0071, 1e-3, False, False),
        (0.0009, 0.0, True, True),
        (0.0011, 0.0, True, False),
        (math.nan, 0.0, False, False),
    ],
)
def test_what_a_merge_may_lose_beside_one_rounding(
    run: Run, lost: float, spread: float, finds_levels: bool, passes: bool
) -> None:
    """0.3 % of the adapter, 0.1 % on levels of its own, and what chance makes of it."""
    rounding = {"code": "range", "bits": 4, "ratio": (0.93, 0.99) if finds_levels else None}
    cell = run.configured(quantizer={"theory": {"rounding": rounding}})
    shares = (AdapterShare("q_proj", 1.0, 0.004, lost, spread),)
    assert ("merged_sum" not in cell.edited(Merged, shares=shares).failed()) is passes


def test_one_layer_that_loses_a_part_of_its_adapter(run: Run) -> None:
    """Many that lose nothing don't hide it; and what nobody looked at is missed."""
    rest = [AdapterShare(f"layer {at}", 1.0, 0.004, 0.0, 1e-5) for at in range(99)]
    odd = AdapterShare("q_proj", 1.0, 0.004, 0.006, 1e-5)
    verdict = run.edited(Merged, shares=(*rest, odd)).verdicts()["merged_sum"]
    assert (verdict.outcome, verdict.measured) == ("failed", 0.006)
    unseen = run.edited(Merged, shares=(AdapterShare("q_proj", 1.0, 0.004),))
    assert unseen.verdicts()["merged_sum"].measured is None
