"""What a worker offers, and whether it and a driver are of the same tunematrix and project."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tunematrix.environments.locks import normalized
from tunematrix.errors import BadInput, MachineProblem
from tunematrix.paths import PACKAGE, is_cache, tool_table
from tunematrix.project import SHIPPED, Project

_DIGITS = 8
_RESOURCE_DIGITS = 12
_KINDS = (".py", ".yaml", ".yml", ".json", ".toml")


@dataclass(frozen=True)
class Identity:
    """Which tunematrix and which project a driver or a worker is of.

    Attributes:
        version: of tunematrix. code: digest of its modules. dask: version of Dask distributed.
        files: digest by name of each spec and option, as a project calls them, and of the
            tables of pyproject.toml that decide how cells run.
    """

    version: str
    code: str
    dask: str
    files: Mapping[str, str]

    @property
    def digest(self) -> str:
        """What is the same only where all of it is."""
        parts = [
            self.version,
            self.code,
            self.dask,
            *(f"{k}={v}" for k, v in sorted(self.files.items())),
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:_RESOURCE_DIGITS]

    def unlike(self, other: Identity) -> str:
        """Say what of another differs from this one, by name; empty where nothing does."""
        if other.version != self.version:
            return f"its tunematrix is {other.version}, and this one {self.version}"
        if other.code != self.code:
            text = f"its tunematrix {other.version} has other code ({other.code})"
            return f"{text} than this one ({self.code})"
        if other.dask != self.dask:
            return f"its Dask distributed is {other.dask}, and this one {self.dask}"
        names = sorted(self.files.keys() | other.files.keys())
        differ = [name for name in names if self.files.get(name) != other.files.get(name)]
        if not differ:
            return ""
        if len(differ) > len(names) // 2:
            return f"it is of another project: {len(differ)} of {len(names)} files differ"
        more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        where = [f"{name} {_how(name, self.files, other.files)}" for name in differ[:3]]
        return f"its project differs: {', '.join(where)}{more}"


def _how(name: str, here: Mapping[str, str], there: Mapping[str, str]) -> str:
    if name not in there:
        return "(missing there)"
    return "(there alone)" if name not in here else "(changed)"


@dataclass(frozen=True)
class Offer:
    """One worker: an environment on a machine.

    Attributes:
        name: of the worker. environment: whose cells it runs. backends: what computes them.
        places: how many cells at once. identity: of its tunematrix and its project.
        python: its version. system: of the machine, such as Linux x86_64.
        devices: by backend, what doctor found of its device. memory: bytes of the machine.
        versions: of the distributions in its virtualenv.
    """

    name: str
    environment: str
    backends: tuple[str, ...]
    places: int
    identity: Identity
    python: str
    system: str
    devices: Mapping[str, str]
    memory: int
    versions: Mapping[str, str]

    @property
    def resource(self) -> str:
        """The name of what a cell needs of its worker; that of another project is another one."""
        return resource(self.environment, self.identity)

    def version(self, name: str) -> str | None:
        """Return the version of a distribution there; None where it isn't installed."""
        return self.versions.get(normalized(name))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Offer:
        """Read it again.

        Raises:
            BadInput: it is none that this version of tunematrix has made.
        """
        try:
            offer: Offer = _adapter().validate_python(data)
        except ValidationError as error:
            message = "is no worker of this version of tunematrix"
            raise BadInput(message) from error
        return offer

    def __str__(self) -> str:
        """Describe it in a line."""
        devices = ", ".join(dict.fromkeys(self.devices.values()))
        gigabytes = f"{self.memory / 1e9:.0f} GB"
        places = f"{self.places} at a time"
        return f"{self.name}: {self.environment}, {devices}, {gigabytes}, {self.system}, {places}"


@cache
def _adapter() -> TypeAdapter[Offer]:
    return TypeAdapter(Offer)


def installed_here() -> dict[str, str]:
    """Return the versions of all distributions in this virtualenv."""
    return {normalized(one.name): one.version for one in distributions() if one.name}


def resource(environment: str, identity: Identity) -> str:
    """Return what Dask calls a place for cells of an environment, of one project and version."""
    return f"{environment}@{identity.digest}"


def identity_of(project: Project) -> Identity:
    """Return which tunematrix and project this is."""
    return Identity(version("tunematrix"), _code(PACKAGE), _dask(), dict(_files(project)))


def _dask() -> str:
    try:
        return version("distributed")
    except PackageNotFoundError:
        text = "a fleet needs Dask distributed, which isn't installed here"
        raise MachineProblem(f'{text}: python -m pip install "tunematrix[fleet]"') from None


@cache
def _code(package: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package)
        if not is_cache(name) and name.parts[0] not in ("configs", "constraints"):
            whole.update(f"{name.as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return whole.hexdigest()[:_DIGITS]


def _files(project: Project) -> Iterator[tuple[str, str]]:
    """Yield the name and the digest of each file that decides what cells are and how they run."""
    seen = set()
    for folder in (*project.groups.roots, *project.spec_folders):
        for path in sorted(folder.rglob("*")):
            if path.suffix not in _KINDS or path in seen or not path.is_file():
                continue
            seen.add(path)
            if folder == project.groups.roots[0]:
                name = f"{SHIPPED}/{path.relative_to(folder).as_posix()}"
            else:
                name = os.path.relpath(path, project.root)
            yield name, hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGITS]
    tables = tool_table(project.root, "tunematrix")
    tables.pop("environments", None)
    text = repr(sorted(tables.items()))
    yield "pyproject.toml [tool.tunematrix]", hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
