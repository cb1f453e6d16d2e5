"""What an upgrade would change: the set as it would become, and both sets tried."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tunematrix.environments.locks import held_back, normalized
from tunematrix.errors import BadInput, MachineProblem, did_you_mean, nearest
from tunematrix.report.past import differing
from tunematrix.results.record import Record
from tunematrix.versions.comparison import UpgradeComparison, compared_sides
from tunematrix.versions.index import Index
from tunematrix.versions.points import Point
from tunematrix.versions.progress import told_progress
from tunematrix.versions.released_faults import ReleasedFault, moved_faults
from tunematrix.versions.resolving import Wanted, solve
from tunematrix.versions.sets import Beneath, PackageSet
from tunematrix.versions.signature import other_versions
from tunematrix.versions.trials import Bench, Trial

NEWEST = "the newest releases that fit"
"""How a set is told in which nothing was named."""


@dataclass(frozen=True)
class PackageWish:
    """A package that is to be another.

    Attributes:
        name: normalized; bound: what its version must meet; empty for the newest that fits.
    """

    name: str
    bound: str = ""


def read_wish(text: str) -> PackageWish:
    """Read PACKAGE, PACKAGE==VERSION or PACKAGE with any other bound.

    Raises:
        BadInput: it is none of them.
    """
    way = "write PACKAGE, or PACKAGE==VERSION"
    try:
        read = Requirement(text)
    except InvalidRequirement as error:
        problem = str(error).partition("\n")[0]
        raise BadInput(f"{text}: is no package ({problem}); {way}") from None
    if read.url or read.marker or read.extras:
        raise BadInput(f"{text}: takes no address, marker or extra; {way}")
    return PackageWish(normalized(read.name), str(read.specifier))


def upgraded_set(wishes: Sequence[PackageWish], below: Beneath, root: Path) -> PackageSet:
    """Return the set as it would become; what nobody names stays wherever it fits.

    Args:
        wishes: what is to be another; none for the newest of everything that is tested.
        below: the environment. root: the project, which may hold releases back.

    Raises:
        BadInput: a package isn't there, is one that stays, or there is no such set.
        MachineProblem: there is no uv, or no index can be reached.
    """
    have = below.packages.versions
    names = [wish.name for wish in wishes]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise BadInput(f"{', '.join(twice)}: is named more than once; name it once")
    for wish in wishes:
        if wish.name in below.fixed:
            text = f"tunematrix itself runs on {wish.name}, so it stays as it is"
            raise BadInput(f"{text}; name another package")
        if not wish.bound and wish.name not in have:
            text = f"{wish.name} isn't in this set of packages, so it can't be upgraded"
            known = have if nearest(wish.name, have) else below.roots
            raise BadInput(f"{text}; {did_you_mean(wish.name, known)}")
    if not wishes:
        held = [Requirement(one.requirement) for one in held_back(root)]
        bounds = {normalized(one.name): str(one.specifier) for one in held}
        wanted = Wanted(bounds={name: bounds[name] for name in below.roots if name in bounds})
        return solve(wanted, below, NEWEST)
    for wish in wishes:
        _refuse_withdrawn(wish)
    wanted = Wanted(
        bounds={wish.name: wish.bound for wish in wishes if wish.bound},
        preferred=below.packages,
        upgraded=[wish.name for wish in wishes if not wish.bound.startswith("==")],
        # What no tested package asks for would else not be looked at.
        roots=tuple(dict.fromkeys([*below.roots, *(wish.name for wish in wishes)])),
    )
    return solve(wanted, below, " ".join(wish.name + wish.bound for wish in wishes))


def _refuse_withdrawn(wish: PackageWish) -> None:
    """Refuse one version that its index doesn't offer any more, which uv installs all the same."""
    pins = [one for one in SpecifierSet(wish.bound) if one.operator == "=="]
    if not pins or pins[0].version.endswith(".*"):
        return
    named = Version(pins[0].version)
    there = [one.version for one in Index().releases(wish.name)]
    # No release at all: uv says that, with its reason. Of pre-releases the index tells nothing.
    if not there or named.is_prerelease or any(one in SpecifierSet(wish.bound) for one in there):
        return
    text = f"{wish.name} {named} isn't offered: it was never published, or yanked since, or is for"
    raise BadInput(f"{text} another Python; name another, such as {there[-1]}")


def try_upgrade(
    new: PackageSet,
    points: Sequence[Point],
    bench: Bench,
    faults: Iterable[ReleasedFault],
) -> UpgradeComparison:
    """Try what is chosen with the set as it is and as it would become, and compare.

    What is known of either isn't run again; after an interruption, what had ended is known. What
    is broken runs twice.

    Args:
        new: the set as it would become. points: what is tried.
        bench: where, with the set as it is. faults: those that releases are known to have.

    Raises:
        MachineProblem: a set can't be installed, or nothing runs in the old one.
    """
    old = bench.below.packages
    sides = [
        _tried(bench, packages, points, name)
        for packages, name in ((old, "as it is"), (new, "upgraded"))
    ]
    moved = moved_faults(faults, old.versions, new.versions)

    def compared() -> UpgradeComparison:
        (before, stray), (after, astray) = map(told_records, sides)
        return compared_sides(
            before,
            after,
            differing(old.versions, new.versions),
            moved,
            (*(one.problem for one in sides if one.problem), *stray, *astray),
            repeated(sides[1]),
        )

    broken = {one.id for one in compared().of("broken")}
    if again := [one for one in points if broken & {one.id, *one.arms}]:
        bench.say(f"broken: {len(again)} to run once more, to tell what is flaky")
        more = bench.run(new, again, 2)
        problem = more.problem or more.lacking or sides[1].problem
        sides[1] = replace(bench.known(new, points), problem=problem)
    return compared()


def repeated(trial: Trial) -> dict[str, list[Record]]:
    """Return all runs of what ran several times, with the versions that were meant."""
    versions = trial.packages.versions
    return {
        name: told
        for name, runs in trial.records.items()
        if len(told := [one for one in runs if not other_versions(one, versions)]) > 1
    }


def told_records(trial: Trial) -> tuple[list[Record], list[str]]:
    """Return the newest record of all that ran, and why others say nothing of the set.

    A declared no says nothing of releases; what ran with other versions is told.
    """
    records, strays = [], []
    for record in filter(None, map(trial.newest, trial.records)):
        if wrong := other_versions(record, trial.packages.versions):
            strays.append(f"{record.cell_id} ran with {wrong}, so it says nothing")
        elif record.outcome != "unsupported":
            records.append(record)
    return records, strays


def pins_text(packages: PackageSet, names: Iterable[str]) -> str:
    """Return some packages of a set as a file of requirements, exact versions, sorted."""
    pins = (f"{name}=={packages.versions[name]}\n" for name in sorted(names))
    return "".join(pins)


def _tried(bench: Bench, packages: PackageSet, points: Sequence[Point], name: str) -> Trial:
    def known() -> int:
        records = bench.known(packages, points).records
        return sum(bool(records.get(one.id)) for one in points)

    already = known()
    waiting = len(points) - already
    bench.say(f"{name}: {waiting} to run, {already} known")
    with told_progress(lambda: known() - already, waiting, bench.say):
        trial = bench.run(packages, points)
    if trial.lacking:
        raise MachineProblem(f"the set can't be installed ({name}):\n  {trial.lacking}")
    return trial
