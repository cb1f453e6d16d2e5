"""Process-wide switches, read again after each step: a library sets them for all that follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tunematrix.evidence.events import Switches

Read = Callable[[], Mapping[str, str]]
"""Returns name to value of every switch of a framework, as they are now."""


class SwitchMeter:
    """Remembers which switches no longer are as they were when it was made.

    Args:
        read: returns them as they are.
    """

    def __init__(self, read: Read) -> None:
        self.begun, self.read = dict(read()), read
        self.changed: dict[str, tuple[int, str]] = {}
        self.steps = 0

    def look(self, step: int) -> None:
        """Read them after optimizer step `step`, from 0."""
        self.steps += 1
        for name, value in self.read().items():
            if value != self.begun.get(name):
                self.changed.setdefault(name, (step, value))

    def event(self) -> Switches:
        """Say what was seen."""
        return Switches(self.begun, self.steps, self.changed)
