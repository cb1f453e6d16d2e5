"""How a point ends with a set of packages → which of two ends that is like."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace

from tunematrix.versions.points import Point
from tunematrix.versions.sets import PackageSet
from tunematrix.versions.signature import Signature, other_versions, signatures
from tunematrix.versions.trials import Bench, Trial

ENDED = ("passed", "failed", "known_failure")
"""Outcomes of what was judged by its checks."""


@dataclass(frozen=True)
class Shown:
    """How a point ended with a set.

    Attributes:
        signature: of it; None where it left no record.
        why: what came in the way where there is none; empty else.
    """

    signature: Signature | None
    why: str = ""

    def __str__(self) -> str:
        """Say it in a few words."""
        return str(self.signature) if self.signature else self.why


@dataclass(frozen=True)
class Fault:
    """What is wrong at the bad end and isn't at the good one.

    Attributes:
        bad, good: how the two end.
        only: names of the checks that are looked at; none for all.
    """

    bad: Signature
    good: Signature
    only: frozenset[str] = frozenset()

    @property
    def checks(self) -> frozenset[str]:
        """The checks that fail at the bad end alone; where several do, one of them is enough."""
        return self.only or frozenset(self.bad.checks) - frozenset(self.good.checks)

    @property
    def is_clear(self) -> bool:
        """Whether the good end shows that it is not there, though it may fail of other things."""
        fails_otherwise = not self.good.raised and bool(self.checks or self.bad.raised)
        return self.good.is_good or fails_otherwise

    def is_in(self, seen: Signature) -> bool | None:
        """Return whether this is what is wrong; None where it is like neither end."""
        if seen in (self.bad, self.good):
            return seen == self.bad
        if seen.raised and seen.raised == self.bad.raised:
            return True
        if not self.bad.raised and not self.checks.isdisjoint(seen.checks):
            return True
        if not self.bad.raised and not seen.raised and self.checks and self.checks <= seen.passed:
            return False
        is_as_good = bool(seen.checks) and {*seen.checks} <= {*self.good.checks}
        return False if is_as_good and not seen.raised else None


@dataclass
class SetJudge:
    """Runs a point with sets of packages, and tells good from bad.

    Attributes:
        bench: where. point: what is run.
        check: name of the one check that decides; empty for all that the point says.
        repeat: how often each set is tried; one failure among them is enough.
        fault: what is wrong at the bad end, once that is known.
        runs: how many runs of sets there were, those that were known before left out.
        seconds: that these took.
        left: how many may follow at most, the next one included.
        untestable: how sets were told that are neither good nor bad, and why.
        untold: how many of these were run.
    """

    bench: Bench
    point: Point
    check: str = ""
    repeat: int = 1
    fault: Fault | None = None
    runs: int = 0
    seconds: float = 0.0
    untestable: dict[str, str] = field(default_factory=dict)
    untold: int = 0
    left: int = 0
    _times: dict[str, int] = field(default_factory=dict)

    @property
    def tried(self) -> int:
        """How many runs of sets it takes, those that were known before among them."""
        return sum(self._times.values())

    def is_bad(self, packages: PackageSet) -> bool | None:
        """Return whether a point is bad with a set; None where that can't be told."""
        before = self.runs
        self._tell(packages.asked)
        seen = self._runs_of(packages, self.repeat)
        answers = [self.answer(one) for one in seen]
        answer = True if True in answers else None if None in answers else False
        words = {True: "bad", False: "good", None: "can't be told"}[answer]
        again = "" if self.runs > before else ", known already"
        self.bench.say(f"  {words} ({seen[-1]}){again}")
        if answer is None:
            self.untold += packages.asked not in self.untestable
            self.untestable[packages.asked] = str(seen[-1])
        return answer

    def flipped(self, good: PackageSet, bad: PackageSet) -> tuple[str, ...]:
        """Return which of the checks that decide fail with one of two sets alone, sorted.

        Args:
            good, bad: sets that were tried, next to each other.
        """
        if self.fault is None or self.fault.bad.raised:
            return ()
        return tuple(sorted(self.fault.checks & self._failing(bad) - self._failing(good)))

    def settle_for(self, good: PackageSet, bad: PackageSet) -> None:
        """Let only those checks decide that flip between two sets; the others come later."""
        if self.fault is not None:
            self.fault = replace(self.fault, only=frozenset(self.flipped(good, bad)))

    def has_more(self, packages: PackageSet, end: PackageSet) -> bool:
        """Return whether checks fail at the bad end that don't yet fail with a first bad set.

        If so, what is counted begins anew, and these checks alone decide from now on.

        Args:
            packages: the first bad set. end: that of the bad end.
        """
        seen, failing = self.worst_of(packages).signature, self._failing(packages)
        if self.check or self.fault is None or self.fault.bad.raised or seen is None:
            return False
        rest = Fault(self.fault.bad, replace(seen, checks=tuple(sorted(failing))))
        if not rest.checks:
            return False
        self.bench.say(f"not failing there yet: {', '.join(sorted(rest.checks))}")
        self._times = dict.fromkeys((packages.digest, end.digest), self.repeat)
        self.fault, self.untestable = rest, {}
        self.runs, self.seconds, self.untold, self.left = 0, 0.0, 0, 0
        return True

    def skip(self, told: str, why: str) -> None:
        """Say that there is no such set as a candidate would be."""
        self.untestable[told] = why
        self.bench.say(f"{told}: can't be told (no packages fit together so: {why})")

    def end(self, name: str, packages: PackageSet, times: int) -> tuple[Shown, ...]:
        """Return how a point ends with the set of an end, each of some runs."""
        self._tell(f"{name}, {packages.asked}")
        seen = self._runs_of(packages, times)
        self.bench.say(f"  {', then '.join(map(str, seen))}")
        return seen

    def seen(self, packages: PackageSet) -> tuple[Shown, ...]:
        """Return how a point ended with a set that was tried, each of its runs, oldest first."""
        found = signatures(self.point, self.bench.known(packages, [self.point]))
        return tuple(map(Shown, found)) or (Shown(None, "it left no record"),)

    def worst_of(self, packages: PackageSet) -> Shown:
        """Return how a point ended with a bad set that was tried, the last time that it was bad."""
        seen = self.seen(packages)
        return next((one for one in reversed(seen) if self.answer(one)), seen[-1])

    def _failing(self, packages: PackageSet) -> frozenset[str]:
        """Return the checks that failed with a set that was tried, in any of its runs."""
        signatures = (one.signature for one in self.seen(packages))
        return frozenset(check for one in signatures if one for check in one.checks)

    def _runs_of(self, packages: PackageSet, times: int) -> tuple[Shown, ...]:
        """Return how a point ends with a set, each of some runs."""
        start, known = time.monotonic(), self.bench.known(packages, [self.point])
        trial = self.bench.run(packages, [self.point], times)
        more = _count(trial, self.point) - _count(known, self.point)
        self._times[packages.digest] = max(times, self._times.get(packages.digest, 0))
        if trial.ran and (more or trial.problem):
            self.runs += max(more, 1)
            self.seconds += time.monotonic() - start
        if trial.lacking or trial.problem:
            return (Shown(None, _first_words(trial)),)
        newest, pins = trial.newest(self.point.id), packages.over(self.bench.below.packages)
        if newest and (wrong := other_versions(newest, pins)):
            return (Shown(None, f"it ran with {wrong}"),)
        if newest and newest.outcome == "unavailable":
            return (Shown(None, f"unavailable: {newest.reason}"),)
        return tuple(Shown(one) for one in signatures(self.point, trial)[-times:])

    def answer(self, shown: Shown) -> bool | None:
        """Return whether one run was bad."""
        signature = shown.signature
        if signature is None or signature.outcome == "unavailable":
            return None
        if self.check:
            judged = signature.outcome in ENDED and not signature.raised
            return self.check in signature.checks if judged else None
        if signature.is_good:
            return False
        return True if self.fault is None else self.fault.is_in(signature)

    def _tell(self, told: str) -> None:
        """Say which probe comes, how many may follow it, and how long they may take."""
        each = self.seconds / self.runs if self.runs else 0.0
        minutes = f", about {math.ceil(self.left * each / 60)} min" if self.left and each else ""
        ahead = f" (at most {self.left} left{minutes})" if self.left else ""
        self.bench.say(f"probe {self.tried + 1}{ahead}: {told}")


def _count(trial: Trial, point: Point) -> int:
    return len(trial.records.get(point.id, ()))


def _first_words(trial: Trial) -> str:
    """Return why a set couldn't be tried, in a line."""
    if trial.lacking:
        return f"can't be installed: {trial.lacking.splitlines()[-1]}"
    return trial.problem
