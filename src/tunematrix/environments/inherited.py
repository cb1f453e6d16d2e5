"""What a virtualenv that is built over the packages of another Python may keep of them.

Reads installed metadata and installs nothing. `packaging` comes with Nox, and with pytest.
"""

from __future__ import annotations

import site
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, DistributionFinder, MetadataPathFinder
from pathlib import Path

from packaging.requirements import Requirement

from tunematrix.environments.locks import normalized


@dataclass(frozen=True)
class Account:
    """What a virtualenv that was built over other packages consists of.

    Attributes:
        kept: name → version of each needed distribution that lies outside it.
        problems: requirements that aren't met, one sentence each.
    """

    kept: Mapping[str, str]
    problems: tuple[str, ...]


def machine_folders() -> list[str]:
    """Return the folders in which the Python that runs Nox finds packages."""
    folders = site.getsitepackages()
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return [folder for folder in dict.fromkeys(folders) if Path(folder).is_dir()]


def found_in(folders: Sequence[str]) -> dict[str, str]:
    """Return name → version of what lies in some folders; the first folder counts."""
    return {name: each.version for name, each in _by_name(folders).items()}


def unfit(requirements: Iterable[str], have: Mapping[str, str]) -> dict[str, str]:
    """Return name → requirement of what is there and isn't what a requirement asks for."""
    parsed = [Requirement(text) for text in requirements]
    return {
        normalized(each.name): str(each)
        for each in parsed
        if (version := have.get(normalized(each.name))) and not _meets(each, version)
    }


def account(requirements: Iterable[str], inside: Path, folders: Sequence[str]) -> Account:
    """Walk all that is required, as `pip check` does, over a virtualenv and what it inherits.

    Args:
        requirements: where to start.
        inside: the virtualenv's own folder of packages; it is seen before the others.
        folders: those of the machine.
    """
    there = _by_name([str(inside), *folders])
    kept: dict[str, str] = {}
    problems: dict[str, None] = {}
    waiting = [("tunematrix", Requirement(text)) for text in requirements]
    seen: set[tuple[str, str]] = set()
    for asker, wanted in waiting:  # grows while it is walked
        name = normalized(wanted.name)
        key = (name, str(wanted))
        if key in seen or not _applies(wanted):
            continue
        seen.add(key)
        if name not in there:
            problems[f"{asker} requires {wanted}, which is not installed"] = None
            continue
        version = there[name].version
        if not _meets(wanted, version):
            problems[f"{asker} requires {wanted}, and {version} is there"] = None
        if not Path(str(there[name].locate_file(""))).is_relative_to(inside):
            kept[name] = version
        waiting += [(name, each) for each in _needs(there[name], wanted.extras)]
    return Account(dict(sorted(kept.items())), tuple(problems))


def distributions_in(folders: Sequence[str]) -> Iterable[Distribution]:
    """Return what is installed in folders, as Python itself finds it.

    Packages such as importlib_metadata put finders of their own before Python's, whose
    distributions raise where metadata is lacking, and list no file that is.
    """
    context = DistributionFinder.Context(path=list(folders))
    return MetadataPathFinder.find_distributions(context)


def _by_name(folders: Sequence[str]) -> dict[str, Distribution]:
    found: dict[str, Distribution] = {}
    for each in distributions_in(folders):
        if each.metadata["Name"]:  # a removal that failed leaves folders without metadata
            found.setdefault(normalized(each.metadata["Name"]), each)
    return found


def _meets(wanted: Requirement, version: str) -> bool:
    return wanted.specifier.contains(version, prereleases=True)


def _applies(wanted: Requirement) -> bool:
    return wanted.marker is None or wanted.marker.evaluate({"extra": ""})


def _needs(distribution: Distribution, extras: Iterable[str]) -> list[Requirement]:
    """Return what a distribution requires, with some of its extras, on this machine."""
    parsed = [Requirement(text) for text in distribution.requires or ()]
    chosen = ("", *extras)
    return [
        Requirement(str(each).partition(";")[0])
        for each in parsed
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in chosen)
    ]
