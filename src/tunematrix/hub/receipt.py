"""What a download left: a list of its files with their hashes, for the steps that come after it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from pydantic import Field, ValidationError

from tunematrix.configuration.section import Section
from tunematrix.errors import BadInput
from tunematrix.paths import shown

RECEIPT = ".tunematrix-download.json"
"""Its name in the folder that was downloaded to."""
_PIECE = 1 << 24


class ReceivedFile(Section):
    """A file as it was when the download had ended."""

    path: str = Field(description="Below the folder.")
    size: int = Field(description="Bytes.")
    sha256: str = Field(description="Of its content.")


class Receipt(Section):
    """What a folder got, from where."""

    form: int = Field(1, description="Version of this file's form.")
    repo: str = Field(description="Name on the Hub.")
    revision: str = Field(description="What was asked for: branch, tag or commit.")
    commit: str = Field(description="What that was at the time.")
    files: tuple[ReceivedFile, ...] = Field(description="In the order of their paths.")

    def write(self, folder: Path) -> Path:
        """Put it into a folder, whole or not at all, and return its path.

        Raises:
            OSError: it can't be written.
        """
        draft = folder / f"{RECEIPT}.{os.getpid()}"
        try:
            draft.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
            draft.replace(folder / RECEIPT)
        finally:
            draft.unlink(missing_ok=True)
        return folder / RECEIPT


def read_receipt(folder: Path) -> Receipt | None:
    """Return what was downloaded to a folder; None where no download has ended.

    Raises:
        BadInput: there is a receipt, but it can't be read.
    """
    file = folder / RECEIPT
    if not file.is_file():
        return None
    try:
        return Receipt.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        text = f"{shown(file)}: is no receipt of a download ({type(error).__name__})"
        raise BadInput(f"{text}; remove it and download again") from None


def digests(path: Path, alive: Callable[[], None] = lambda: None) -> tuple[str, str]:
    """Return the SHA-256 of a file, and the SHA-1 that git would give it.

    Args:
        path: the file. alive: called now and then, since a large file takes a while.
    """
    sha256 = hashlib.sha256()
    blob = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            sha256.update(piece)
            blob.update(piece)
            alive()
    return sha256.hexdigest(), blob.hexdigest()
