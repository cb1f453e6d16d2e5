"""Where the tunematrix at work comes from → how a virtualenv gets the same one.

The version alone doesn't tell: a checkout, a colleague's wheel and a release may have the same. So
a checkout is installed from its folder, and anything else is packed into a wheel again, file by
file, whether it came from an index, a wheel, a Git repository or a folder that has changed since.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from tunematrix.environments import locks
from tunematrix.errors import BadInput
from tunematrix.paths import PACKAGE, made, pyproject, shown

NAME = "tunematrix"
# What an installer adds to the files of a wheel.
_INSTALLERS = ("INSTALLER", "RECORD", "REQUESTED", "direct_url.json", "uv_cache.json")
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Origin:
    """Where a tunematrix comes from.

    Attributes:
        package: the folder that its modules lie in.
    """

    package: Path = PACKAGE

    @cached_property
    def checkout(self) -> Path | None:
        """The source tree that it runs from; None where it was installed."""
        folder = self.package.parents[1]
        named = pyproject(folder).get("project", {}).get("name")
        return folder if self.package.parent.name == "src" and named == NAME else None

    @cached_property
    def distribution(self) -> Distribution:
        """What it was installed as.

        Raises:
            BadInput: it lies there without having been installed.
        """
        try:
            found = distribution(NAME)
        except PackageNotFoundError:
            found = None
        if found is None or Path(str(found.locate_file(NAME))).resolve() != self.package:
            text = f"tunematrix runs from {shown(self.package)}, where it was not installed"
            raise BadInput(f"{text}; install it with pip in the Python that runs Nox")
        return found

    def arguments(self, extras: Sequence[str], folder: Path) -> tuple[str, ...]:
        """Return what an installer is told to install.

        Args:
            extras: those of tunematrix that are wanted.
            folder: where a wheel may be put.
        """
        wanted = f"[{','.join(extras)}]" if extras else ""
        if self.checkout is not None:
            place = "." if self.checkout == Path.cwd() else str(self.checkout)
            return ("-e", f"{place}{wanted}")
        return (f"{NAME}{wanted} @ {self.repacked(folder).as_uri()}",)

    @property
    def public(self) -> tuple[str, str]:
        """What installs it on any machine, and a path if that may be another one than this.

        That is the release of its version, unless it came from a repository or a web address.
        """
        if self.checkout is not None:
            return f"{NAME}=={pyproject(self.checkout)['project']['version']}", str(self.checkout)
        release = f"{NAME}=={self.distribution.version}"
        told = json.loads(self.distribution.read_text("direct_url.json") or "{}")
        url: str = told.get("url", "")
        if commit := told.get("vcs_info", {}).get("commit_id"):
            return f"{NAME} @ git+{url}@{commit}", ""
        if url.startswith("https:"):
            return f"{NAME} @ {url}", ""
        return release, url.removeprefix("file://")

    def requirements(self, extras: Sequence[str]) -> list[str]:
        """Return what it and some of its extras require; its own extras are followed."""
        if self.checkout is not None:
            return locks.requirements(self.checkout, extras)
        parsed = [Requirement(text) for text in self.distribution.requires or ()]
        waiting, found = ["", *extras], dict[str, None]()
        for extra in waiting:  # grows while it is walked
            for each in parsed:
                if each.marker is not None and not each.marker.evaluate({"extra": extra}):
                    continue
                if locks.normalized(each.name) == NAME:
                    waiting += [name for name in sorted(each.extras) if name not in waiting]
                else:
                    found[str(each).partition(";")[0].strip()] = None
        return list(found)

    def repacked(self, folder: Path) -> Path:
        """Pack what is installed into a wheel again; return it.

        It lies in a folder that is named for its content, so that installers and their caches
        never take one for another.

        Raises:
            BadInput: the list of its files was lost.
        """
        content = self._content()
        digest = hashlib.sha256()
        for name, data in content.items():
            digest.update(f"{name} {len(data)} ".encode() + data)
        wheel = f"{NAME}-{self.distribution.version}-py3-none-any.whl"
        path = made(folder / digest.hexdigest()[:16]) / wheel
        if not path.exists():
            half = path.with_suffix(f".{os.getpid()}")
            with zipfile.ZipFile(half, "w") as archive:
                for name, data in content.items():
                    entry = zipfile.ZipInfo(name, _LONG_AGO)
                    entry.external_attr = 0o644 << 16
                    archive.writestr(entry, data)
            half.replace(path)
        return path

    def _content(self) -> dict[str, bytes]:
        """Return the files of the wheel that it was installed from, by name."""
        installed = self.distribution
        names = sorted(
            str(file)
            for file in installed.files or ()
            if re.match(rf"{NAME}(-[^/]+\.dist-info)?/", str(file))
            and "__pycache__" not in file.parts
            and not (".dist-info/" in str(file) and file.name in _INSTALLERS)
        )
        if not names:
            text = f"{shown(self.package)}: the list of what was installed is missing"
            raise BadInput(f"{text}; install tunematrix again, with pip --force-reinstall")
        content = {name: Path(str(installed.locate_file(name))).read_bytes() for name in names}
        lines = [f"{name},sha256={_hash(data)},{len(data)}" for name, data in content.items()]
        record = f"{NAME}-{installed.version}.dist-info/RECORD"
        return {**content, record: "\n".join([*lines, f"{record},,", ""]).encode()}


def _hash(data: bytes) -> str:
    """Return a digest as a wheel's RECORD has it."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
