"""Which workers a run has: those of its environments and its project; and which it leaves out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunematrix.configuration.releases import Installed
from tunematrix.environments.table import Environment
from tunematrix.fleet.offer import Identity, Offer

if TYPE_CHECKING:
    from tunematrix.fleet.client import Connection

_LOOK = 5.0


class Roster:
    """What workers offer, as they were seen last.

    Args:
        parts: the environments whose cells there are.
        identity: of this tunematrix and project: only workers of the same are taken.

    Attributes:
        offers: of the workers that are taken. left_out: why each of the others isn't.
    """

    def __init__(self, parts: Sequence[Environment], identity: Identity) -> None:
        self.parts, self._identity = parts, identity
        self.offers: tuple[Offer, ...] = ()
        self.left_out: list[str] = []
        self._looked = 0.0

    def look(self, connection: Connection) -> None:
        """See which workers are there now."""
        self._looked = time.monotonic()
        try:
            found, strange = connection.offers()
        except Exception:  # noqa: BLE001 - Dask raises many kinds where the scheduler is gone
            return  # its tasks will say so
        names = {one.name for one in self.parts}
        held = [(one, self._identity.unlike(one.identity)) for one in found]
        self.offers = tuple(o for o, unlike in held if o.environment in names and not unlike)
        left_out = [f"{one.name} ({one.environment}): {unlike}" for one, unlike in held if unlike]
        self.left_out = [f"left out: {text}" for text in (*left_out, *strange)]

    def is_old(self) -> bool:
        """Whether it's time to look again."""
        return time.monotonic() - self._looked > _LOOK

    def forget(self) -> None:
        """Have the next one who asks look again."""
        self._looked = 0.0

    def lacking(self) -> list[str]:
        """Return the environments without a worker."""
        return [one.name for one in self.parts if not self.places(one.name)]

    def places(self, environment: str) -> int:
        """Return how many cells of an environment run at a time."""
        return sum(one.places for one in self.offers if one.environment == environment)

    def installed(self, backend: str) -> Installed:
        """Return what tells the version of a distribution where a backend's cells run."""
        offer = next((one for one in self.offers if backend in one.backends), None)
        return (lambda _: None) if offer is None else offer.version
