"""A package index → the releases of a package, and when each was published."""

from __future__ import annotations

import base64
import json
import os
import platform
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from tunematrix.environments import sources
from tunematrix.errors import MachineProblem
from tunematrix.evidence.secrets import masked, secrets_in

PYPI = "https://pypi.org/simple"
_JSON = "application/vnd.pypi.simple.v1+json"
_LINK = re.compile(r"""href=["']([^"']+)""")
_SECONDS = 60
_AT_ONCE = 8


@dataclass(frozen=True)
class Release:
    """A release of a package that the Python at work can have.

    Attributes:
        version: of it. published: when its first file was; None where the index doesn't say.
        size: bytes of its largest wheel; 0 where nothing tells.
    """

    version: Version
    published: datetime | None = None
    size: int = 0


@dataclass
class Index:
    """The package indexes that pip asks here; each package is asked for once.

    A folder of wheels, or an index of files, has no dates: releases that are there alone count as
    published at no known time.
    """

    _known: dict[str, tuple[Release, ...]] = field(default_factory=dict)

    def releases(self, name: str) -> tuple[Release, ...]:
        """Return the releases of a package in ascending order; none where no index has it.

        Yanked releases, pre-releases, and those for other Pythons are left out.

        Raises:
            MachineProblem: an index can't be reached, or doesn't answer as one does.
        """
        self.ask_for([name])
        return self._known[name]

    def ask_for(self, names: Iterable[str]) -> None:
        """Ask for several packages at once.

        Raises:
            MachineProblem: an index can't be reached, or doesn't answer as one does.
        """
        waiting = [name for name in dict.fromkeys(names) if name not in self._known]
        settings = sources.pip_settings() if waiting else {}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = pool.map(lambda name: _releases(name, settings), waiting)
            self._known |= dict(zip(waiting, found, strict=True))


def download_size(pins: Mapping[str, str], index: Index) -> int:
    """Return how many bytes some pins are to download, as far as the indexes tell."""
    index.ask_for(pins)
    return sum(
        release.size
        for name, version in pins.items()
        for release in index.releases(name)
        if str(release.version) == version
    )


def _releases(name: str, settings: Mapping[str, str]) -> tuple[Release, ...]:
    """Ask all indexes for a package, then folders; the first that has a release counts for it."""
    found: dict[Version, Release] = {}
    told = {**os.environ, **sources.as_uv(settings, os.environ)}
    answers = [_answer(address, name, settings) for address in _addresses(settings, told)]
    answers += [_in_folder(folder, name) for folder in _folders(settings, told)]
    for answer in answers:
        for release in read_releases(answer):
            found.setdefault(release.version, release)
    return tuple(found[version] for version in sorted(found))


def _addresses(settings: Mapping[str, str], told: Mapping[str, str]) -> list[str]:
    """Return the addresses of indexes on a network."""
    return [one for one in _indexes(settings, told) if one.startswith("http")]


def _indexes(settings: Mapping[str, str], told: Mapping[str, str]) -> list[str]:
    if sources.without_index(settings):
        return []
    more = told.get("UV_INDEX", "").split()
    # uv's may have a name before them: NAME=https://…
    addresses = [one.partition("=")[2] if "=" in one.partition("//")[0] else one for one in more]
    return [one.rstrip("/") for one in [*addresses, told.get("UV_DEFAULT_INDEX", PYPI)]]


def _folders(settings: Mapping[str, str], told: Mapping[str, str]) -> Iterator[tuple[Path, bool]]:
    """Yield the folders with wheels, and those that have one for each package in turn."""
    for place in told.get("UV_FIND_LINKS", "").split(","):
        if place and "://" not in place.removeprefix("file://"):
            yield Path(place.removeprefix("file://")), False
    for address in _indexes(settings, told):
        if address.startswith("file://"):
            yield Path(address.removeprefix("file://")), True


def _in_folder(folder: tuple[Path, bool], name: str) -> Mapping[str, Any]:
    """Return what lies in a folder of a package, as an index would answer; it has no dates."""
    place, of_packages = folder
    if of_packages:
        page = place / name / "index.html"
        links = _LINK.findall(page.read_text(encoding="utf-8")) if page.is_file() else []
        names = [unquote(link).partition("#")[0].rpartition("/")[2] for link in links]
    else:
        names = [path.name for path in place.glob("*")] if place.is_dir() else []
    parsed = ((one, _parsed(one)) for one in names)
    return {"files": [{"filename": one} for one, known in parsed if known and known[0] == name]}


def _answer(address: str, name: str, settings: Mapping[str, str]) -> Mapping[str, Any]:
    """Ask an index for a package; nothing where it hasn't got it."""
    parts = urlsplit(address)
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    request = urllib.request.Request(f"{plain}/{name}/", headers={"Accept": _JSON})
    if parts.username:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        request.add_header("Authorization", f"Basic {base64.b64encode(pair).decode()}")
    context = ssl.create_default_context(cafile=settings.get("cert"))
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS, context=context) as answer:
            if _JSON not in answer.headers.get("Content-Type", ""):
                return {}  # pages of links alone, which have no dates
            read: Mapping[str, Any] = json.load(answer)
            [*read_releases(read)]
            return read
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return {}
        (first, *_) = f"{error.code} {error.reason}".splitlines()
        problem = f"answers {first}"
    except OSError as error:
        problem = f"can't be asked: {error}"
    except (ValueError, TypeError, KeyError, AttributeError, HTTPException) as error:
        problem = f"doesn't answer as one does, of {name}: {error!r}"
    text = f"the package index {plain} {problem}"
    advice = "see that it can be reached, and that pip's settings name it rightly"
    raise MachineProblem(masked(f"{text}; {advice}", secrets_in(os.environ)))


def read_releases(answer: Mapping[str, Any]) -> Iterator[Release]:
    """Yield the releases in the answer of an index (the standard's Simple API, as JSON)."""
    found: dict[Version, Release] = {}
    for file in answer.get("files", ()):
        parsed = _parsed(file["filename"])
        if parsed is None or parsed[1].is_prerelease or file.get("yanked") or not _fits(file):
            continue
        version = parsed[1]
        when = file.get("upload-time")
        moment = datetime.fromisoformat(when) if when else None
        known = found.get(version, Release(version))
        first = min(filter(None, (moment, known.published)), default=None)
        found[version] = Release(version, first, max(known.size, file.get("size") or 0))
    yield from found.values()


def _parsed(filename: str) -> tuple[str, Version] | None:
    """Return the normalized name and the version in a file's name; None where it has none."""
    try:
        if filename.endswith(".whl"):
            return parse_wheel_filename(filename)[:2]
        return parse_sdist_filename(filename)
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return None


def _fits(file: Mapping[str, Any]) -> bool:
    """Whether a file says that it is for the Python at work, or nothing."""
    try:
        return SpecifierSet(file.get("requires-python") or "").contains(platform.python_version())
    except InvalidSpecifier:
        return True
