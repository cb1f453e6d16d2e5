"""What waits for a worker, and what was sent: in which order, and how much at a time."""

from __future__ import annotations

import pytest

from tunematrix.fleet.backlog import Backlog
from tunematrix.fleet.tickets import HearsNothing, Ticket
from tunematrix.fleet.travel import Errand, Terms
from tunematrix.matrix.cells import Cell
from tunematrix.spec.model import Spec

SPEC = Spec(test_id="claim", recipe="sft")


def ticket(name: str, environment: str = "cpu") -> Ticket:
    """Make the ticket of a cell."""
    errand = Errand(Terms("run"), Cell(name, SPEC, {}, {}))
    return Ticket(errand, environment, HearsNothing())


def names(tickets: list[Ticket]) -> list[str]:
    """Return the ids of their cells."""
    return [one.errand.cell.id for one in tickets]


@pytest.fixture
def backlog() -> Backlog:
    """Eight cells wait for cpu, and one for mlx."""
    backlog = Backlog(["cpu", "mlx"])
    for number in range(8):
        backlog.append(ticket(f"c{number}"))
    backlog.append(ticket("m0", "mlx"))
    return backlog


def four_of_cpu(environment: str) -> int:
    """Have four places for cpu, and none for others."""
    return 4 if environment == "cpu" else 0


def test_as_many_go_out_as_there_are_places_and_a_few_that_follow(backlog: Backlog) -> None:
    """A quarter more than there are places; a place that gets free takes one."""
    first = list(backlog.send(four_of_cpu))
    assert names(first) == ["c0", "c1", "c2", "c3", "c4", "m0"]
    assert list(backlog.send(four_of_cpu)) == []
    backlog.come_back(first[0].key)
    assert names(list(backlog.send(four_of_cpu))) == ["c5"]


def test_what_was_recalled_goes_out_first_and_under_another_key(backlog: Backlog) -> None:
    """The order stays, and late answers of the first time find nothing."""
    (first, *_) = backlog.send(four_of_cpu)
    key = first.key
    assert backlog.sent(key) is first
    backlog.recall()
    assert not backlog.is_out
    assert names(list(backlog.send(four_of_cpu))) == ["c0", "c1", "c2", "c3", "c4", "m0"]
    assert backlog.sent(key) is None
    assert backlog.sent(first.key) is first


def test_what_was_let_go_of_waits_before_the_others(backlog: Backlog) -> None:
    """A cell that its worker let go of is the next one."""
    (first, *_) = backlog.send(four_of_cpu)
    backlog.come_back(first.key)
    backlog.put_back(first)
    assert names(list(backlog.send(four_of_cpu))) == ["c0"]


def test_nothing_is_left_of_what_was_dropped(backlog: Backlog) -> None:
    """What was sent comes first, then what waits."""
    list(backlog.send(four_of_cpu))
    backlog.append(ticket("m1", "mlx"))
    assert names(backlog.drop("mlx")) == ["m1"]
    assert names(backlog.drop_all()) == ["c0", "c1", "c2", "c3", "c4", "m0", "c5", "c6", "c7"]
    assert not backlog.is_out
    assert list(backlog.send(four_of_cpu)) == []


class _Behind(HearsNothing):
    is_behind = True


def test_nothing_more_goes_out_where_results_are_not_taken() -> None:
    """There is memory for few results."""
    backlog = Backlog(["cpu"])
    waiting = ticket("c0")
    waiting.heard = _Behind()
    backlog.append(waiting)
    assert list(backlog.send(four_of_cpu)) == []
