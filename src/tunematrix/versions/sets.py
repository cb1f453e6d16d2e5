"""A set of packages in exact versions, and the environment that sets are laid over."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from tunematrix.environments import inherited
from tunematrix.environments.locks import normalized
from tunematrix.environments.origin import Origin
from tunematrix.environments.table import Environment
from tunematrix.environments.yours import yours

TORCH = "torch"
AS_IT_IS = "the environment as it is"
"""How a set is told that changes nothing."""


@dataclass(frozen=True)
class PackageSet:
    """All packages that a process finds, each in one version.

    Attributes:
        versions: normalized name of a distribution to its version.
        python: of the process, as "3.11".
        asked: how somebody asked for it, for messages.
    """

    versions: Mapping[str, str] = field(hash=False)
    python: str = f"{sys.version_info.major}.{sys.version_info.minor}"
    asked: str = AS_IT_IS

    @property
    def digest(self) -> str:
        """A short name for what it holds, however it was asked for, on this kind of machine."""
        what = [sorted(self.versions.items()), self.python, platform.system(), platform.machine()]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]

    def over(self, other: PackageSet) -> dict[str, str]:
        """Return name → version of what it has and the other hasn't, or in another version."""
        there = other.versions
        return {name: v for name, v in self.versions.items() if there.get(name) != v}

    def with_versions(self, versions: Mapping[str, str], asked: str) -> PackageSet:
        """Return this set with some packages in other versions, or added."""
        return replace(self, versions={**self.versions, **versions}, asked=asked)


@dataclass(frozen=True)
class Beneath:
    """The environment that sets are laid over: that of the Python at work.

    Attributes:
        packages: all that is installed in it.
        fixed: names of those that no set changes: what tunematrix itself runs on.
        roots: names of those that are tested: what others there are follows from these.
        of_torch: names of those that the installed PyTorch needs, which may be newer than a day.
    """

    packages: PackageSet
    fixed: frozenset[str]
    roots: tuple[str, ...]
    of_torch: frozenset[str] = frozenset()

    def laid_over(self, versions: Mapping[str, str], asked: str) -> PackageSet:
        """Return the set of this environment with versions over it; what is fixed stays."""
        free = {name: v for name, v in versions.items() if name not in self.fixed}
        return self.packages.with_versions(free, asked)


def beneath(row: Environment) -> Beneath:
    """Look at what is installed for the Python at work, as an environment of the table."""
    folders = [folder for folder in sys.path if folder and Path(folder).is_dir()]
    packages = PackageSet(inherited.found_in(folders))
    origin = Origin()
    nowhere = Path(sys.prefix) / "nowhere"
    kept = inherited.account(origin.requirements([]), nowhere, folders).kept
    wanted = [*origin.requirements(yours(row, Path()).extras), *row.packages]
    roots = [name for name in _names(wanted) if name in packages.versions and name not in kept]
    has_torch = TORCH in packages.versions
    needed = inherited.account([TORCH], nowhere, folders).kept if has_torch else {}
    fixed = frozenset({*kept, "tunematrix"})
    return Beneath(packages, fixed, tuple(dict.fromkeys(roots)), frozenset(needed) - fixed)


def _names(requirements: Iterable[str]) -> Iterable[str]:
    """Yield the names that requirements begin with; options of an installer have none."""
    for text in requirements:
        with suppress(InvalidRequirement):
            yield normalized(Requirement(text).name)
