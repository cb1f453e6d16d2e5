"""Several processes that are watched, and train together: what is wrong between them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.watched import (
    Change,
    fields,
    with_records,
)

from tunematrix.probe.tunematrix_probe.records import (
    SeenBatch,
    SeenGradient,
    SeenWeights,
)

if TYPE_CHECKING:
    from tests.unit.conftest import Run


# What is planted in the second of two processes, or in both (None).
APART: dict[str, tuple[type[Any], int | None, Change, str, str]] = {
    "weights that part": (SeenWeights, 1, fields(weights="x"), "watched_ranks", "weights differ"),
    "gradients that aren't averaged": (
        SeenWeights,
        1,
        fields(gradients="x", weights="y"),
        "watched_ranks",
        "likely the model isn't wrapped",
    ),
    "what isn't sharded": (
        SeenWeights,
        1,
        fields(whole=False, replicated=2, replicated_weights="x", weights="y"),
        "watched_ranks",
        "weights that aren't sharded differ",
    ),
    "the same rows": (
        SeenBatch,
        None,
        lambda one: replace(one, digests=tuple(row[4:] for row in one.digests)),
        "watched_batches",
        "all got the same rows",
    ),
    "gradients that are summed": (
        SeenGradient,
        None,
        lambda one: replace(one, reached=tuple(2 * value for value in one.reached)),
        "watched_gradient",
        "is 2 times the sum",
    ),
}


@pytest.mark.parametrize("fault", APART)
def test_faults_between_processes(two: Run, fault: str) -> None:
    """Each fails its own check."""
    kind, rank, change, name, words = APART[fault]
    run = with_records(two, kind, change, rank=rank)
    assert run.failed() == {name}
    assert words in run.verdicts()[name].message


def test_processes_that_know_nothing_of_each_other(two: Run) -> None:
    """Several were started to train together, and each trains alone."""
    apart = with_records(two, SeenWeights, fields(backend=""))
    apart = with_records(apart, SeenWeights, fields(weights="x", gradients="y"), rank=1)
    assert apart.failed() == {"watched_ranks"}
    assert "each trains alone" in apart.verdicts()["watched_ranks"].message
