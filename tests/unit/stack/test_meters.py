"""Meters around a stretch of training: attached in their order, read once all have let go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tunematrix.evidence.events import Continuity, Event, Memory, Throughput
from tunematrix.stack.yardsticks.meters import Meter, watching


@pytest.fixture
def happened() -> list[str]:
    """What happened, in its order."""
    return []


def meter(name: str, happened: list[str]) -> Meter:
    """Return a meter that says what becomes of it."""

    @contextmanager
    def watch() -> Iterator[None]:
        happened.append(f"{name} looks")
        try:
            yield
        finally:
            happened.append(f"{name} lets go")

    def read() -> Iterator[Event]:
        happened.append(f"{name} is read")
        yield Continuity(1, (name,))

    return Meter(name, (Continuity,), watch, read)


def test_meters_are_read_when_none_looks_any_more(happened: list[str]) -> None:
    """The process's peak is written first: what is read afterwards takes memory too."""
    written: list[Event] = []
    with watching([meter("a", happened), meter("b", happened)], written.append):
        happened.append("training")
        written.append(Throughput(1, 1.0))
    looks = ["a looks", "b looks", "training", "b lets go", "a lets go"]
    assert happened == [*looks, "a is read", "b is read"]
    assert [type(event) for event in written] == [Throughput, Memory, Continuity, Continuity]
    assert written[2:] == [Continuity(1, ("a",)), Continuity(1, ("b",))]


def test_meters_of_what_raises_let_go_unread(happened: list[str]) -> None:
    """No hook outlives training, and half a measurement is none."""
    written: list[Event] = []
    with (
        pytest.raises(FloatingPointError),
        watching([meter("a", happened)], written.append),
    ):
        raise FloatingPointError
    assert happened == ["a looks", "a lets go"]
    assert written == []


def test_a_meter_may_only_look_or_only_read() -> None:
    """What it leaves out is nothing."""
    written: list[Event] = []
    only_read = Meter("read", (Throughput,), read=lambda: [Throughput(2, 1.0)])
    with watching([Meter("neither", ()), only_read], written.append):
        pass
    assert written[1:] == [Throughput(2, 1.0)]
