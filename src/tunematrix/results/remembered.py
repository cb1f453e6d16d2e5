"""What a run keeps in memory of a record that its store has: enough to sum the run up."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Set
from dataclasses import replace
from typing import Any, TypeVar, cast

from tunematrix.checks.verdict import Verdict
from tunematrix.results.record import Record

Fact = TypeVar("Fact")
_NOTHING: Mapping[str, float] = {}


class Shortening:
    """Shortens records to what is asked of many of them at once.

    A run may have a hundred thousand, whose checks and figures would take gigabytes. What many of
    them have alike, such as the versions of all packages, is kept once.

    Args:
        metrics: whether a metric is kept, by its name. checks: names of those that are kept though
            they passed.
    """

    def __init__(
        self, metrics: Callable[[str], bool] | None = None, checks: Set[str] = frozenset()
    ) -> None:
        self._known: dict[str, Any] = {}
        self._metrics, self._checks = metrics, checks

    def short(self, record: Record) -> Record:
        """Return a record without what it is long by."""
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
            checks=tuple(check for check in record.checks if self._is_kept(check)),
            metrics=self._kept_metrics(record.metrics),
            durations=_NOTHING,
            losses=(),
            stderr="",
        )

    def _is_kept(self, check: Verdict) -> bool:
        return check.outcome != "passed" or check.name in self._checks

    def _kept_metrics(self, metrics: Mapping[str, float]) -> Mapping[str, float]:
        if self._metrics is None:
            return _NOTHING
        return {sys.intern(name): value for name, value in metrics.items() if self._metrics(name)}

    def _once(self, fact: Fact) -> Fact:
        """Return the first that was alike."""
        return cast("Fact", self._known.setdefault(json.dumps(fact, default=repr), fact))
