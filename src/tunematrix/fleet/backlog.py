"""The cells of a run that aren't back from a fleet: those that wait, and those that were sent."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator

from tunematrix.fleet.tickets import Ticket


class Backlog:
    """Tickets by the environment that they wait for, and by the key that they were sent under.

    Only one thread may use it.

    Args:
        environments: names of those whose cells there are.
    """

    def __init__(self, environments: Iterable[str]) -> None:
        self._waiting = {name: deque[Ticket]() for name in environments}
        self._sent: dict[str, Ticket] = {}

    @property
    def is_out(self) -> bool:
        """Whether something was sent, and isn't back."""
        return bool(self._sent)

    def append(self, ticket: Ticket) -> None:
        """Let a ticket wait behind all others of its environment."""
        self._waiting[ticket.environment].append(ticket)

    def put_back(self, ticket: Ticket) -> None:
        """Let a ticket that was sent already wait before all others of its environment."""
        self._waiting[ticket.environment].appendleft(ticket)

    def send(self, places: Callable[[str], int]) -> Iterator[Ticket]:
        """Yield the tickets that there is room for, the first first; they count as sent then.

        Args:
            places: says how many cells of an environment run at a time.
        """
        beyond = Counter(ticket.environment for ticket in self._sent.values())
        for name, waiting in self._waiting.items():
            there = places(name)
            # More would be counted as killing a worker that dies before it has begun them.
            room = there + max(1, there // 4) - beyond[name]
            for _ in range(min(room, len(waiting))):
                if waiting[0].heard.is_behind:
                    break  # memory is for few results
                ticket = waiting.popleft()
                ticket.tries += 1
                self._sent[ticket.key] = ticket
                yield ticket

    def sent(self, key: str) -> Ticket | None:
        """Return the ticket that was sent under a key; None where it isn't out any more."""
        return self._sent.get(key)

    def come_back(self, key: str) -> None:
        """Take note that there is an answer to what was sent under a key."""
        del self._sent[key]

    def recall(self) -> None:
        """Let all that was sent wait again, before what waits already and in the same order."""
        lost, self._sent = list(self._sent.values()), {}
        for ticket in reversed(lost):
            self.put_back(ticket)

    def drop(self, environment: str) -> list[Ticket]:
        """Return what waits for an environment, and forget it."""
        waiting = self._waiting[environment]
        dropped = list(waiting)
        waiting.clear()
        return dropped

    def drop_all(self) -> list[Ticket]:
        """Return all that isn't back, what was sent first, and forget it."""
        dropped, self._sent = list(self._sent.values()), {}
        for name in self._waiting:
            dropped += self.drop(name)
        return dropped
