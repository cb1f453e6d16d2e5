"""Rows that stand one after the other, without padding: each is still looked at by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tunematrix.evidence.events import Coverage, MicroBatch
from tunematrix.faults import flat
from tunematrix.faults.catalogue import Fault

if TYPE_CHECKING:
    from tests.stack.conftest import RunPlanted, RunSmall

FLAT: dict[str, object] = {
    "train__padding": "free",
    "data": "unequal",
    "train__max_length": 256,
    "train__batch_size": 4,
}
HONEST: list[dict[str, object]] = [
    {},
    {"data": "chat", "train__accumulation": 2},
    {"data": "prompt-completion", "method": "full"},
    {"train__streaming": True},
    {"train__batch_size": 1},
    {"train__gradient_checkpointing": True, "quantizer": "bnb-nf4"},
    {"precision": "bf16", "model": "toy-gemma"},
    {"method": "dora", "method__implementation__dropout": 0.1},
]
CHECKS = {"labels", "micro_batches", "coverage", "row_order", "gradient", "first_loss"}


@pytest.mark.each_time(3)
@pytest.mark.parametrize("settings", HONEST, ids=str)
def test_honest_rows(run_small: RunSmall, settings: dict[str, object]) -> None:
    """Every row is known, in its order, and there are as many as in a batch that is padded."""
    ran = run_small(**FLAT | settings)
    assert ran.failed & CHECKS == set()
    batches, coverage = ran.evidence.all(MicroBatch), ran.evidence.one(Coverage)
    assert coverage is not None and coverage.strayed == 0
    assert {one.rows for one in batches} == {(FLAT | settings)["train__batch_size"]}
    # On the mean, rows are as long as their tokens are many: nothing is padding.
    assert all(0 <= one.rows * one.columns - one.tokens < one.rows for one in batches)


@pytest.mark.each_time(2)
@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (flat.first_tokens_count, "labels"),
        (flat.positions_run_on, "micro_batches"),
        (flat.positions_run_on, "labels"),
        (flat.last_row_dropped, "micro_batches"),
        (flat.last_row_dropped, "row_order"),
    ],
)
def test_planted(
    run_planted: RunPlanted,
    fault: Fault,
    check: str,
) -> None:
    """What becomes of a row shows, though there is but one in the batch."""
    assert check in run_planted(fault, **FLAT).failed


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"data": "packed"}, "packed rows, which have no padding anyhow"),
        ({"train__eval_steps": 2}, "Trainer weighs the batches of an evaluation"),
        ({"train__too_long": "cut"}, "TRL cuts nothing then"),
        ({"method": "custom-lora"}, "the plain loop pads its rows"),
        ({"backend": "mlx"}, "padding=free can't be had"),
    ],
)
def test_what_cannot_be_had(run_small: RunSmall, settings: dict[str, object], said: str) -> None:
    """The cell ends before it trains, and says why."""
    with pytest.raises(ValueError, match=said):
        run_small(**FLAT | settings)
