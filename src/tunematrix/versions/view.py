"""What a bisection found, as text and as plain data."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunematrix.paths import shown
from tunematrix.versions import overlays
from tunematrix.versions.found import Bisection, Culprit
from tunematrix.versions.sets import PackageSet
from tunematrix.versions.trials import Bench

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class FoundHere:
    """What was found, and what to do about it here.

    Attributes:
        found: it. commands: that show the last good and the first bad set.
        links: of known faults that it may be.
    """

    found: Bisection
    commands: tuple[str, str]
    links: Sequence[str] = ()


def as_text(told: FoundHere, item: str) -> str:
    """Return what was found of a cell or a relation, in a few lines."""
    return "\n".join(_lines(told.found, item, told))


def _lines(found: Bisection, item: str, told: FoundHere) -> Iterator[str]:
    what = "mended by" if found.mended else "broken by"
    names = " together with ".join(_release(one, found) for one in found.culprits)
    yield f"{item} was {what} {names}"
    for one in found.culprits:
        yield f"  {one.name}: {', '.join(_ends(one, mended=found.mended))}"
        if one.untestable:
            yield f"    between them, not testable: {', '.join(one.untestable)}"
    if found.carried:
        yield f"  moved with it, since it asks for that: {', '.join(found.carried)}"
    if found.checks:
        yield f"  it {'mended' if found.mended else 'broke'}: {', '.join(found.checks)}"
    yield f"  bad is: {found.signature}"
    for link in told.links:
        yield f"  known: <{link}>"
    yield "  to see it:"
    for side, command in zip(("good", "bad"), told.commands, strict=True):
        yield f"    {side}: {command}"
    sets = f"{found.releases} sets to choose from"
    known = found.tried - found.runs
    before = f", {known} of them known before" if known else ""
    yield f"{found.tried} runs{before}, {found.seconds:.0f} s; {sets}"
    if found.untestable:
        yield f"{len(found.untestable)} couldn't be told:"
        yield from (f"  {told}: {why}" for told, why in found.untestable.items())


def _release(one: Culprit, found: Bisection) -> str:
    """Name the release that made the difference, or those of which one did: the newer side's."""
    version = (one.last_good if found.mended else one.first_bad) or "(none)"
    if one.untestable:
        return f"{one.name}, one of {', '.join([*one.untestable, version])}"
    return f"{one.name} {version}"


def _ends(one: Culprit, *, mended: bool) -> list[str]:
    """Name the two releases between which it changed, the older one first."""
    told = []
    words = ("first good", "last bad") if mended else ("last good", "first bad")
    for word, version, day in zip(
        words, (one.last_good, one.first_bad), one.published, strict=True
    ):
        date = f" ({day:%Y-%m-%d})" if day else ""
        told.append(f"{word} {version or 'none'}{date}")
    return told[::-1] if mended else told


def command(packages: PackageSet, bench: Bench, node: str) -> str:
    """Return the command that runs an item with a set of packages."""
    pins = packages.over(bench.below.packages)
    run = f"tunematrix run -e {bench.project.environment.name} {shlex.quote(_short(node))}"
    if not pins:
        return run
    return f"PYTHONPATH={shown(bench.overlays / overlays.digest(pins))} {run}"


def _short(node: str) -> str:
    path, colons, id_ = node.partition("::")
    return f"{shown(Path(path))}{colons}{id_}"


def to_json(told: Sequence[FoundHere], item: str) -> Any:
    """Return plain data; docs/bisect.md says what the keys mean."""
    found = [_found_to_json(one) for one in told]
    return {"schema_version": SCHEMA_VERSION, "item": item, "found": found}


def _found_to_json(told: FoundHere) -> Any:
    found = told.found
    return {
        "mended": found.mended,
        "culprits": [
            {
                "name": one.name,
                "last_good": one.last_good,
                "first_bad": one.first_bad,
                "published": [day.isoformat() if day else None for day in one.published],
                "untestable": list(one.untestable),
            }
            for one in found.culprits
        ],
        "carried": list(found.carried),
        "checks": list(found.checks),
        "signature": str(found.signature),
        "links": list(told.links),
        "commands": dict(zip(("good", "bad"), told.commands, strict=True)),
        "sets": found.releases,
        "runs": found.tried,
        "known_before": found.tried - found.runs,
        "seconds": round(found.seconds, 1),
        "untestable": dict(found.untestable),
    }
