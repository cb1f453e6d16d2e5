from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tunematrix.evidence.events import Rank

if TYPE_CHECKING:
    from tests.unit.conftest import Run


def test_one_process_is_not_asked(run: Run) -> None:
    """Where nothing was launched, there are no ranks to speak of."""
    assert "ranks" not in run.verdicts()


def test_two_processes_that_agree(ranks: Run) -> None:
    """An honest pair passes, and the verdict says how many and over what."""
    verdict = ranks.verdicts()["ranks"]
    assert (verdict.outcome, verdict.measured) == ("passed", 0)
    assert verdict.unit == "disagreements of 2 processes over gloo"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"parameters": "other"}, "rank 1 ended with other parameters than rank 0"),
        ({"first_rows": ("d", "a")}, "ranks 0 and 1 trained on 1 of the same rows"),
        ({"rows": 8}, "their rows are 16, 8, no equal shares"),
        ({"processes": 1}, "rank 1 was one of 1 processes, not of 2"),
        ({"collectives": "mpi"}, "rank 1 communicated over mpi, not gloo"),
        ({"uneven": 4}, "rank 1 trained on 4 rows too often, and on 0 where the seed has others"),
        ({"strayed": 2}, "rank 1 trained on 0 rows too often, and on 2 where the seed"),
        ({"held": 2048}, "they held 4096, 2048 of 4096 elements"),
    ],
)
def test_one_that_differs(ranks: Run, fields: dict[str, Any], said: str) -> None:
    """Whatever one process did otherwise, it is named."""
    verdict = ranks.edited(Rank, **fields).verdicts()["ranks"]
    assert (verdict.outcome, verdict.measured) == ("failed", 1)
    assert said in verdict.message


def test_one_that_took_no_part(ranks: Run) -> None:
    """A rank without a word fails the check; so do all of them."""
    (first, _) = ranks.evidence.all(Rank)
    assert "rank 1 took no part" in ranks.recording(first).verdicts()["ranks"].message
    assert "no reading" in ranks.without(Rank).verdicts()["ranks"].message


def test_shards(ranks: Run) -> None:
    """Sharded parameters are nowhere whole, and nothing of them is lost."""
    shards = ranks.configured(launcher={"shards": True})
    assert "ranks" in shards.failed()
    halves = list(shards.evidence.all(Rank))
    assert [rank.held for rank in halves] == [4096, 4096]
    split = shards.edited(Rank, 0, held=3000).edited(Rank, 1, held=1096)
    assert "ranks" not in split.failed()
    assert "ranks" in split.edited(Rank, 1, held=1000).failed()
    assert "ranks" in split.edited(Rank, 0, held=4096).edited(Rank, 1, held=0).failed()


def test_the_last_word_of_a_rank_counts(ranks: Run) -> None:
    """Training that was interrupted and resumed leaves two records a rank."""
    first, second = ranks.evidence.all(Rank)
    assert "ranks" not in ranks.recording(first, second, first, second).failed()
