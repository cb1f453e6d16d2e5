"""What the cells of a regression did on both sides → whether the suite notices it; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tunematrix.checks.verdict import Verdict
from tunematrix.configuration.releases import FaultOfReleases, covers
from tunematrix.proof.releases.table import Symptom
from tunematrix.spec.known_failure import holds

Observed = Literal["detected", "missed", "false alarm", "broken", "unavailable"]


@dataclass(frozen=True)
class Seen:
    """What became of a cell or a relation on one side.

    Attributes:
        id: of it.
        ended: whether it ran to its end, exit code 0.
        failed: the checks that failed; excused: names of those that its spec knows to.
        raised: class names of what it raised, most specific first; phase: in which phase.
        problem: why it didn't end, or wasn't judged.
        unavailable: whether something that it needs is missing here.
        versions: of what it imported, by distribution.
        place: its axes, and the name of its spec.
    """

    id: str
    ended: bool
    failed: tuple[Verdict, ...] = ()
    raised: tuple[str, ...] = ()
    phase: str = ""
    problem: str = ""
    excused: frozenset[str] = frozenset()
    unavailable: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    place: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """What a regression's cells say.

    Attributes:
        observed: in one word; reason: in a sentence, empty where it was detected.
        check: what noticed: a check with its figure, or an exception with its phase.
    """

    observed: Observed
    reason: str = ""
    check: str = ""


def decide(
    expected: Symptom,
    faulty: Sequence[Seen],
    fixed: Sequence[Seen],
    control: Sequence[Seen] = (),
    known: Sequence[FaultOfReleases] = (),
) -> Decision:
    """Decide over a regression.

    Args:
        expected: how each cell of the faulty side must fail.
        faulty: its cells there.
        fixed: the same on the fixed side; none where no release is fixed.
        control: cells of the faulty side that must pass.
        known: other faults, whose checks may fail where all else passes.
    """
    if not faulty:
        return Decision("broken", "no cell ran on the faulty side")
    if lacking := [one for one in (*faulty, *fixed, *control) if one.unavailable]:
        return Decision("unavailable", f"{lacking[0].id}: {lacking[0].problem}")
    found = [_on_faulty_side(expected, one) for one in faulty]
    for side, cells in (("fixed side", fixed), ("control", control)):
        found += [_on_good_side(one, side, _excused(one, known, expected)) for one in cells]
    for bad in ("broken", "missed", "false alarm"):
        for decision in found:
            if decision.observed == bad:
                return decision
    return found[0]


def _on_faulty_side(expected: Symptom, seen: Seen) -> Decision:
    if expected.raises is not None:
        return _loud(expected, seen)
    if not seen.ended:
        return Decision("broken", f"faulty side: {seen.id}: {seen.problem}")
    name = expected.named
    named = [one for one in seen.failed if one.name == name]
    if wanted := [one for one in named if _shows(expected, one)]:
        return Decision("detected", check=_with_figure(wanted[0]))
    if named:
        what = "measured nothing" if expected.check else "had something to read"
        return Decision("broken", f"faulty side: {seen.id}: {name} {what}")
    others = ", ".join(_with_figure(one) for one in seen.failed) or "every check passed"
    return Decision("missed", f"faulty side: {seen.id}: {name} passed ({others})")


def _shows(expected: Symptom, failed: Verdict) -> bool:
    """Whether a check failed as it must: on a figure, or since there was none at all."""
    return failed.measured is None if expected.lacks else failed.is_measured


def _loud(expected: Symptom, seen: Seen) -> Decision:
    if seen.ended:
        return Decision("missed", f"faulty side: {seen.id} raised nothing")
    names = {name.rpartition(".")[2] for name in seen.raised} | {*seen.raised}
    if expected.raises in names and seen.phase == expected.phase:
        return Decision("detected", check=f"{expected.raises} in {seen.phase}")
    return Decision("broken", f"faulty side: {seen.id}: not {expected}: {seen.problem}")


def _excused(seen: Seen, known: Sequence[FaultOfReleases], expected: Symptom) -> frozenset[str]:
    """Return the checks that may fail where the fault isn't: never the one that has to see it."""
    others = {
        name
        for one in known
        if covers(one.releases, seen.versions.get) and holds(one.when, seen.place)
        for name in one.checks
    }
    return seen.excused | (others - {expected.named})


def _on_good_side(seen: Seen, side: str, excused: frozenset[str]) -> Decision:
    if not seen.ended:
        return Decision("broken", f"{side}: {seen.id}: {seen.problem}")
    if wrong := [one for one in seen.failed if one.name not in excused]:
        named = ", ".join(map(_with_figure, wrong))
        return Decision("false alarm", f"{side}: {seen.id}: {named} failed")
    return Decision("detected")


def _with_figure(failed: Verdict) -> str:
    figure = failed.measured
    text = f"{figure:.3g}" if isinstance(figure, float) else "nothing" if figure is None else figure
    return f"{failed.name} {text} {failed.unit}".rstrip()
