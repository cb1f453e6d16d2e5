"""A package index → the releases of a package, and when each was published."""

from __future__ import annotations

import base64
import json
import os
import platform
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
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
_SECONDS = 60
_AT_ONCE = 8


@dataclass(frozen=True)
class Release:
    """A release of a package that the Python at work can have.

    Attributes:
        version: of it. published: when its first file was; None where the index doesn't say.
    """

    version: Version
    published: datetime | None


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


def _releases(name: str, settings: Mapping[str, str]) -> tuple[Release, ...]:
    """Ask all indexes for a package; the first that has a release counts for it."""
    found: dict[Version, Release] = {}
    for address in _addresses(settings):
        for release in read_releases(_answer(address, name, settings)):
            found.setdefault(release.version, release)
    return tuple(found[version] for version in sorted(found))


def _addresses(settings: Mapping[str, str]) -> list[str]:
    if sources.without_index(settings):
        return []
    told = sources.as_uv(settings, os.environ)
    default = told.get("UV_DEFAULT_INDEX") or os.environ.get("UV_DEFAULT_INDEX", PYPI)
    more = told.get("UV_INDEX", os.environ.get("UV_INDEX", "")).split()
    addresses = [one.partition("=")[2] if "=" in one.partition("//")[0] else one for one in more]
    return [one.rstrip("/") for one in [*addresses, default] if one.startswith("http")]


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
            return read
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return {}
        problem = f"answers {error.code} {error.reason}"
    except (OSError, ValueError) as error:
        problem = f"can't be asked: {error}"
    text = f"the package index {plain} {problem}"
    advice = "see that it can be reached, and that pip's settings name it rightly"
    raise MachineProblem(masked(f"{text}; {advice}", secrets_in(os.environ)))


def read_releases(answer: Mapping[str, Any]) -> Iterator[Release]:
    """Yield the releases in the answer of an index (the standard's Simple API, as JSON)."""
    published: dict[Version, datetime | None] = {}
    for file in answer.get("files", ()):
        version = _version(file["filename"])
        if version is None or version.is_prerelease or file.get("yanked") or not _fits(file):
            continue
        when = file.get("upload-time")
        moment = datetime.fromisoformat(when) if when else None
        earlier = published.get(version)
        published[version] = min(moment, earlier) if moment and earlier else moment or earlier
    for version, moment in published.items():
        yield Release(version, moment)


def _version(filename: str) -> Version | None:
    try:
        if filename.endswith(".whl"):
            return parse_wheel_filename(filename)[1]
        return parse_sdist_filename(filename)[1]
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return None


def _fits(file: Mapping[str, Any]) -> bool:
    """Whether a file says that it is for the Python at work, or nothing."""
    try:
        return SpecifierSet(file.get("requires-python") or "").contains(platform.python_version())
    except InvalidSpecifier:
        return True
