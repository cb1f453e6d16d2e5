"""A change of one file: worked out first, applied last."""

from __future__ import annotations

import contextlib
import os
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunematrix.errors import BadInput, MachineProblem
from tunematrix.paths import shown

Deed = Literal["wrote", "added to", "kept"]


@dataclass(frozen=True)
class FileChange:
    """What becomes of a file.

    Attributes:
        path: of the file.
        deed: whether it is new, gets lines, or is left as it is.
        about: what it holds, or why it is kept.
        text: all that it reads afterwards; None where it is kept.
        by_hand: lines that its owner has to add, since the file is kept.
    """

    path: Path
    deed: Deed
    about: str
    text: str | None = None
    by_hand: tuple[str, ...] = ()

    def apply(self) -> None:
        """Write it.

        Raises:
            BadInput: another process has made the file meanwhile.
            MachineProblem: it can't be written.
        """
        if self.text is None:
            return
        with _explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.deed == "wrote":
                with self.path.open("x", encoding="utf-8", newline="") as file:
                    file.write(self.text)
            else:
                _replace(self.path.resolve(), self.text)


def read(path: Path) -> str | None:
    """Return the text of a file with its own ends of lines; None where there is no such file.

    Raises:
        BadInput: it can't be read.
    """
    if not path.exists():
        return None
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{shown(path)}: can't be read: {error}; correct it, or move it") from None


def appended(text: str, block: str) -> str:
    """Return a text with a block at its end, after an empty line; ends of lines as it has them."""
    end = "\r\n" if "\r\n" in text else "\n"
    body = text if not text or text.endswith("\n") else text + end
    gap = end if body.strip() else ""
    return body + gap + block.replace("\n", end)


def below_header(text: str, header: str, line: str) -> str | None:
    """Return a TOML text with a line put below the header of a table; None if there is no such."""
    lines = text.splitlines(keepends=True)
    for number, each in enumerate(lines):
        if each.partition("#")[0].strip() == header:
            end = "\r\n" if each.endswith("\r\n") else "\n"
            head = each if each.endswith("\n") else each + end
            return "".join(
                [*lines[:number], head, line.replace("\n", end) + end, *lines[number + 1 :]]
            )
    return None


def holds(text: str, expected: Mapping[str, Any]) -> bool:
    """Whether a TOML text means exactly this: that an edit did what it was to do, and no more."""
    try:
        return tomllib.loads(text) == expected
    except tomllib.TOMLDecodeError:
        return False


def _replace(path: Path, text: str) -> None:
    """Write a file anew in one go, so that it is never half there; its permissions stay."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        Path(name).chmod(path.stat().st_mode & 0o7777)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        text = f"{shown(path)}: something is in the way: {error.strerror}"
        raise BadInput(f"{text}; move it, and call tunematrix init again") from None
    except OSError as error:
        text = f"can't write {shown(path)}: {error.strerror}"
        raise MachineProblem(f"{text}; let it be written, and call tunematrix init again") from None
