"""What a meter is, for every engine: a name, the events it writes, when it looks and when it reads.

An engine lists its meters; how they are walked around training is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

from tunematrix.evidence.events import Event
from tunematrix.stack.yardsticks.process_memory import ProcessPeak

Write = Callable[[Event], None]
"""Takes each event as it is known."""


def _nothing() -> Iterable[Event]:
    return ()


@dataclass(frozen=True)
class Meter:
    """Measures one thing about training.

    Attributes:
        name: of what it measures.
        writes: kinds of events, those included that it writes while it looks.
        watch: lets it look meanwhile; it is attached before training and removed after it.
        read: says what is known only once no meter looks any more.
    """

    name: str
    writes: tuple[type[Event], ...]
    watch: Callable[[], AbstractContextManager[None]] = nullcontext
    read: Callable[[], Iterable[Event]] = _nothing


@contextmanager
def watching(meters: Sequence[Meter], write: Write) -> Iterator[None]:
    """Let all meters look meanwhile, in their order, and the process's peak be measured.

    Afterwards each of them is read.
    """
    with ExitStack() as stack:
        for meter in meters:
            stack.enter_context(meter.watch())
        # Last, so that what meters keep for themselves is there before.
        peak = ProcessPeak.begin()
        yield
        write(peak.end())
    read(meters, write)


def read(meters: Sequence[Meter], write: Write) -> None:
    """Write what each meter has to say in the end."""
    for meter in meters:
        for event in meter.read():
            write(event)
