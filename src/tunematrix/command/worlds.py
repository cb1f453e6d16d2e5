"""How many processes train together, by the variables that whoever started them gave them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

import psutil

# Until a new process has become another program, it has the variables of its parent.
_SETTLED_SECONDS = 1.0


class _World(NamedTuple):
    """What processes have in common that are to train together."""

    size: int
    address: str
    port: str


class _Member(NamedTuple):
    """A process: its world, None where it is in none, and its parent's number."""

    world: _World | None
    parent: int


class Worlds:
    """The worlds that the processes of a command were started in.

    One process that is seen once is enough, since its variables say how many there are. So a rank
    that is missed, because it lives for a moment only, makes no world smaller.
    """

    def __init__(self) -> None:
        self._members: dict[psutil.Process, _Member] = {}

    def read(self, living: set[psutil.Process]) -> None:
        """Look at the processes that are there now; those that are known for long are passed."""
        for process in living:
            known = self._members.get(process)
            with suppress(psutil.Error):
                if known and time.time() - process.create_time() > _SETTLED_SECONDS:
                    continue
                # Who started it is said only as long as that one lives.
                parent = known.parent if known else process.ppid()
                # There are no variables while it ends, and while it becomes another program.
                if variables := process.environ():
                    self._members[process] = _Member(_world(variables), parent)

    @property
    def size(self) -> int | None:
        """How many processes the largest world has; None where none was seen.

        A world whose processes each start a world of their own trains nothing: its processes are
        launchers.
        """
        by_number = {process.pid: member for process, member in self._members.items()}
        launchers = {
            number
            for start, member in by_number.items()
            for number in _above(start, by_number)
            if member.world is not None and by_number[number].world != member.world
        }
        sizes = [
            member.world.size
            for number, member in by_number.items()
            if member.world is not None and number not in launchers
        ]
        return max(sizes, default=None)


def _above(number: int, members: Mapping[int, _Member]) -> Iterator[int]:
    """Yield the processes above one, its parent first."""
    passed = {number}
    while (number := members[number].parent) in members and number not in passed:
        passed.add(number)
        yield number


def _world(variables: Mapping[str, str]) -> _World | None:
    size = variables.get("WORLD_SIZE", "")
    if "RANK" not in variables or not size.isdecimal():
        return None
    address, port = (variables.get(f"MASTER_{name}", "") for name in ("ADDR", "PORT"))
    return _World(int(size), address, port)
