"""What the checks of batches make of passes, rows, labels and activations."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.checks.test_steps_checks import without_gradients

from tunematrix.checks.batches import WRONG
from tunematrix.evidence.events import (
    Coverage,
    MicroBatch,
    OptimizerStep,
)

if TYPE_CHECKING:
    from tests.unit.conftest import Run


def test_steps_without_any_pass(run: Run) -> None:
    """Passes of the first step alone don't vouch for four steps."""
    first = run.recording(*run.evidence.all(MicroBatch)[:2])
    verdict = first.verdicts()["micro_batches"]
    assert (verdict.outcome, verdict.measured) == ("failed", "0, 2 per step")


def test_passes_after_the_last_step(run: Run) -> None:
    """Passes that no optimizer step follows are gradients thrown away."""
    extra = MicroBatch(4, 2, 10, 18, 0, 0, (1,), 1, 0)
    assert run.recording(*run.evidence.all(MicroBatch), extra).failed() == {"micro_batches"}


def test_batch_size_that_was_ignored(run: Run) -> None:
    """Eight rows in one micro-batch are not two in each of four."""
    verdict = run.edited(MicroBatch, 3, rows=8).verdicts()["micro_batches"]
    assert verdict.outcome == "failed"
    assert "micro-batches of [8]" in verdict.message


def test_packed_rows_at_their_bounds(run: Run) -> None:
    """2 × 128 positions have room; more than half is used, or one row would have been enough."""
    for columns, passes in ((128, False), (129, True), (256, True), (257, False)):
        packed = run.configured(data={"packing": True})
        batches = [MicroBatch(s // 2, 1, columns, 170, 2, 2, (1,)) for s in range(8)]
        verdict = packed.recording(*batches).verdicts()["micro_batches"]
        assert (verdict.outcome == "passed") is passes, columns
        assert (
            str(verdict.bound)
            == "2 per step, each of more than 128 of 256 packed positions, save the last"
        )
        # An epoch's last row holds what is left over.
        batches[3] = replace(batches[3], columns=20)
        assert ("micro_batches" not in packed.recording(*batches).failed()) is passes
    assert "micro_batches" in run.configured(data={"packing": True}).failed()


@pytest.mark.parametrize(
    ("texts", "least"), [((50, 61), 198), ((58, 128), 128), ((10, 20), 216), ((9, 400), 128)]
)
def test_packed_rows_of_short_texts(run: Run, texts: tuple[int, int], least: int) -> None:
    """In 128 positions two texts of 50 to 61 tokens have room; of 20, less than 20 are left."""
    packed = run.configured(data={"packing": True})
    for columns, passes in ((least, False), (least + 1, True)):
        batches = [MicroBatch(s // 2, 1, columns, 170, 2, 2, (1,), texts=texts) for s in range(8)]
        failed = packed.recording(*batches).failed()
        assert ("micro_batches" not in failed) is passes, columns


def test_labels_of_audited_rows_only(run: Run) -> None:
    """All audited rows must be faithful; batches that weren't sampled don't dilute them."""
    sampled = run.evidence.all(MicroBatch)[0]
    assert sampled.audited == 2
    assert run.edited(MicroBatch, 0, faithful=1).failed() == {"labels"}
    unsampled = [
        MicroBatch(b.step, b.rows, b.columns, b.tokens, 0, 0, (1,))
        for b in run.evidence.all(MicroBatch)
    ]
    assert run.recording(*unsampled).verdicts()["labels"].measured is None


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_with_rows_is_named(run: Run, kind: str) -> None:
    """Each kind in words of its own, so that a cut row isn't taken for shuffled labels."""
    verdict = run.edited(MicroBatch, 0, faithful=1, wrong={kind: 1}).verdicts()["labels"]
    assert verdict.outcome == "failed"
    assert verdict.message.endswith(f"of the others, 1 {WRONG[kind]}")


def test_rows_that_are_cut_as_asked(run: Run) -> None:
    """They are right, and told of: nothing learns how they end."""
    verdict = run.edited(MicroBatch, 0, cut=2).verdicts()["labels"]
    assert (verdict.outcome, verdict.measured) == ("warned", 1.0)
    assert verdict.message.startswith("2 of 8 rows were cut to train.max_length=128 tokens")


def test_an_order_that_nobody_knows(run: Run) -> None:
    """Loops of one's own follow a rule of their own."""
    assert "row_order" not in run.edited(Coverage, strayed=None).verdicts()


def test_checkpointing_runs_layers_twice(run: Run) -> None:
    """Asked for, once is too few; not asked for, twice is too many; thrice is never right."""
    asked = run.configured(train={"gradient_checkpointing": True})
    twice = _passes(run, layer_calls=(2,), kept=0)
    assert asked.failed() == {"gradient_checkpointing", "activations"}
    assert asked.recording(*twice).failed() == set()
    assert run.recording(*twice).failed() == {"gradient_checkpointing"}
    assert asked.recording(*twice).edited(MicroBatch, layer_calls=(3,)).failed()


def test_passes_without_a_gradient(run: Run) -> None:
    """SFTTrainer takes one for each batch where it smooths labels; MLX shows none."""
    twice = run.recording(*_passes(run, beside=1))
    assert twice.failed() == {"computed_once"}
    smoothed = {"label_smoothing": 0.1}
    assert "computed_once" not in twice.configured(train=smoothed).failed()
    thrice = run.recording(*_passes(run, beside=2)).configured(train=smoothed)
    assert "computed_once" in thrice.failed()
    assert "computed_once" not in run.recording(*_passes(run, beside=None)).verdicts()


@pytest.mark.parametrize(
    ("fields", "passes"),
    [
        ({"successive": 0.5}, True),
        ({"successive": 0.51}, False),
        ({"successive": 0.74, "seen": 8, "rows": 8}, True),
        ({"successive": 0.76, "seen": 8, "rows": 8}, False),
        ({"uneven": 1}, False),
        ({"seen": 0}, False),
    ],
)
def test_rows_seen_in_their_turn(run: Run, fields: dict[str, Any], passes: bool) -> None:
    """Each as often as the others, in an order that isn't the data's."""
    assert ("coverage" not in run.edited(Coverage, **fields).failed()) is passes


def test_packed_rows_have_the_packers_order(run: Run) -> None:
    """Eight stories in one row follow each other as they fitted in; each is still seen in turn."""
    packed = run.configured(data={"packing": True})
    assert "coverage" not in packed.edited(Coverage, successive=0.92).failed()
    assert "coverage" in packed.edited(Coverage, successive=0.92, uneven=1).failed()


def test_checkpointing_reaches_every_layer(run: Run) -> None:
    """One that runs once keeps its activations, whatever the others do."""
    asked = run.configured(train={"gradient_checkpointing": True})
    some = asked.recording(*_passes(run, layer_calls=(1, 2), kept=0))
    assert "gradient_checkpointing" in some.failed()


def test_what_decides_is_what_is_shown(run: Run) -> None:
    """Not the one of two figures that was within its bound."""
    by_norm = run.edited(OptimizerStep, 0, expected_norm=3.3).verdicts()["gradient"]
    assert (by_norm.outcome, by_norm.unit) == ("failed", "of the norm")
    assert by_norm.measured == pytest.approx(0.3 / 3.3)
    in_order = run.edited(Coverage, successive=1.0).verdicts()["coverage"]
    assert (in_order.outcome, in_order.measured, str(in_order.bound)) == ("failed", 1.0, "<= 0.5")


def test_coverage_is_owed_where_every_batch_is_looked_at(run: Run) -> None:
    """A backend may say that nobody can; gradients that nobody saw say no such thing."""
    hidden = run.configured(backend={"hides": ["batches"]}).without(Coverage)
    assert "coverage" not in hidden.verdicts()
    assert "coverage" in without_gradients(run).without(Coverage).failed()
    assert "coverage" in run.without(Coverage).failed()


@pytest.mark.parametrize(
    ("asked", "fields", "passes"),
    [
        (True, {"layer_calls": (2,), "kept": 0}, True),
        (True, {"layer_calls": (2,), "kept": 1}, False),
        (False, {"kept": 2}, True),
        (False, {"stale": 1}, False),
    ],
)
def test_activations_are_let_go(
    run: Run, asked: bool, fields: dict[str, Any], passes: bool
) -> None:
    """Kept where nothing is computed again, and never beyond the pass."""
    cell = run.configured(train={"gradient_checkpointing": asked})
    found = cell.recording(*_passes(run, **fields))
    assert ("activations" not in found.failed()) is passes


def test_activations_that_nobody_can_see(run: Run) -> None:
    """MLX has no way to ask, and then nothing is said of it."""
    blind = run.recording(*_passes(run, kept=None, stale=None))
    assert "activations" not in blind.verdicts()
    half_blind = run.edited(MicroBatch, kept=None).verdicts()["activations"]
    assert (half_blind.outcome, half_blind.measured) == ("failed", None)


def _passes(run: Run, **fields: Any) -> list[MicroBatch]:
    """Return all of a run's passes with other fields."""
    return [replace(batch, **fields) for batch in run.evidence.all(MicroBatch)]
