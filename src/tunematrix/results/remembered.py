"""What a run keeps in memory of a record that its store has: enough to sum the run up."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

from tunematrix.results.record import Record

Fact = TypeVar("Fact")
_NOTHING: Mapping[str, float] = {}


class Memory:
    """Shortens records to what the end of a run asks of them.

    A run may have a hundred thousand, whose checks and figures would take gigabytes. What many of
    them have alike, such as the versions of all packages, is kept once.
    """

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def short(self, record: Record) -> Record:
        """Return a record without its figures and the checks that passed."""
        return replace(
            record,
            cell_id=sys.intern(record.cell_id),
            base_id=sys.intern(record.base_id),
            run_id=sys.intern(record.run_id),
            spec=sys.intern(record.spec),
            reason=sys.intern(record.reason),
            link=sys.intern(record.link),
            spec_digest=sys.intern(record.spec_digest),
            axes=self._once(record.axes),
            overrides=self._once(record.overrides),
            versions=self._once(record.versions),
            machine=self._once(record.machine),
            checks=tuple(check for check in record.checks if check.outcome != "passed"),
            metrics=_NOTHING,
            durations=_NOTHING,
            losses=(),
            stderr="",
        )

    def _once(self, fact: Fact) -> Fact:
        """Return the first that was alike."""
        return cast("Fact", self._known.setdefault(json.dumps(fact, default=repr), fact))
