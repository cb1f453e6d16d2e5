"""One file of a repository → its place in the folder, whole and checked, or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.file_download import http_get, is_xet_available
from huggingface_hub.utils import build_hf_headers

from tunematrix.hub.causes import TooManyBytes
from tunematrix.hub.events import (
    Begun,
    Done,
    Failed,
    Got,
    Kind,
    Listed,
    Message,
    ModelOrder,
    Remark,
    RemoteFile,
    Stopped,
)
from tunematrix.hub.receipt import RECEIPT, digests

PARTS = Path(".cache/huggingface/download")
"""Where the client keeps its own drafts, below the folder; ours lie there, too."""
_PAUSE = 0.1
"""Seconds between two messages about one file."""
# The client's own 10 MB would be all that a cut or a limit in seconds could be noticed after.
constants.DOWNLOAD_CHUNK_SIZE = 1 << 18


class Fetching:
    """The way of one file."""

    def __init__(
        self,
        found: Listed,
        order: ModelOrder,
        file: RemoteFile,
        token: str | bool,
        say: Callable[[Message], None],
    ) -> None:
        self._order, self._file, self._number = order, file, found.order
        self._commit, self._token, self._say = found.commit, token, say
        self._folder = Path(order.output_dir)
        self._path = self._folder / file.path
        self._told = 0.0
        self._received = 0

    def done(self) -> Done:
        """Get the file, unless it is there.

        Raises:
            Stopped: what came isn't the file.
            Exception: whatever the client raises.
        """
        was_there = self._path.is_file()
        if was_there and (sha256 := self._right(self._path)):
            return self._said(sha256, "there")
        # From here on the folder isn't what its receipt says, until all has come.
        (self._folder / RECEIPT).unlink(missing_ok=True)
        self._say(Begun(self._number, self._file.path, self._file.size))
        deed = "replaced" if was_there else "fetched"
        url = hf_hub_url(self._order.repo, self._file.path, revision=self._commit)
        metadata = None
        if self._file.sha256:
            metadata = get_hf_file_metadata(url, token=self._token, retry_on_errors=True)
        if metadata is None or (metadata.xet_file_data is not None and is_xet_available()):
            self._by_client(force=was_there)
            sha256 = self._checked(self._path)
        else:
            part = self._part()
            deed = "resumed" if part.exists() else deed
            sha256 = self._by_parts(url, str(metadata.location), part)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part.replace(self._path)
        return self._said(sha256, deed)

    def _by_client(self, *, force: bool) -> None:
        hf_hub_download(
            self._order.repo,
            self._file.path,
            revision=self._commit,
            local_dir=self._folder,
            token=self._token,
            force_download=force,
            tqdm_class=self._counter(),
            library_name="tunematrix",
        )

    def _part(self) -> Path:
        """Return the draft of this very content, which the next run goes on with."""
        (self._folder / PARTS).mkdir(parents=True, exist_ok=True)
        return self._folder / PARTS / f"{self._file.sha256}.part"

    def _by_parts(self, url: str, location: str, part: Path) -> str:
        """Fetch into a draft that stays when this ends early; return the SHA-256 of the whole."""
        headers: dict[str, Any] = dict(build_hf_headers(token=self._token))
        if urlsplit(url)[:2] != urlsplit(location)[:2]:
            headers.pop("authorization", None)  # the token is for the Hub alone
        was_begun = part.exists()
        self._go_on(location, headers, part)
        if was_begun and not self._right(part):
            self._say(Remark(f"{self._file.path}: what was here isn't right; all of it again"))
            part.unlink()
            self._go_on(location, headers, part)
        return self._checked(part)

    def _go_on(self, location: str, headers: dict[str, Any], part: Path) -> None:
        with part.open("ab") as draft:
            if draft.tell() > self._file.size:
                draft.truncate(0)
                draft.seek(0)
            self._received = draft.tell()
            if self._received:
                self._say(Remark(f"{self._file.path}: {self._received} bytes are here; going on"))
            http_get(
                location,
                draft,
                resume_size=self._received,
                headers=headers,
                expected_size=self._file.size,
                tqdm_class=self._counter(),
            )

    def _right(self, path: Path) -> str:
        """Return the SHA-256 of a file that is the wanted one; empty if it isn't."""
        if path.stat().st_size != self._file.size:
            return ""
        sha256, blob = digests(path, self._alive)
        wanted = self._file
        is_right = sha256 == wanted.sha256 if wanted.sha256 else blob == wanted.blob
        return sha256 if is_right else ""

    def _checked(self, path: Path) -> str:
        if sha256 := self._right(path):
            return sha256
        size = path.stat().st_size
        path.unlink()  # or it would be taken for the model
        kind = Kind.WRONG_HASH if size == self._file.size else Kind.WRONG_SIZE
        raise Stopped(Failed(kind, self._number, self._file.path, detail=f"{size} bytes came"))

    def _said(self, sha256: str, deed: str) -> Done:
        return Done(self._number, self._file.path, self._file.size, sha256, deed)

    def _alive(self) -> None:
        """Say that there is progress, though no byte came: a large file is being read."""
        self._say(Got(self._number, self._file.path, self._received))

    def _count(self, more: float) -> None:
        self._received += int(more)
        if self._received > self._file.size:
            raise TooManyBytes(self._file.path)
        if time.monotonic() - self._told > _PAUSE:
            self._told = time.monotonic()
            self._alive()

    def _counter(self) -> Any:
        """Return the class of a progress bar that shows nothing, and counts for this file."""
        fetching = self

        class Counter:
            def __init__(self, *_: object, initial: int = 0, **__: object) -> None:
                fetching._received = initial

            def __enter__(self) -> Counter:
                return self

            def __exit__(self, *_: object) -> None: ...

            def update(self, more: float | None = 1) -> None:
                fetching._count(more or 0)

            def update_transfer(self, more: float | None = 1) -> None: ...

            def set_postfix_str(self, *_: object, **__: object) -> None: ...

            set_transfer_postfix_str = set_description = refresh = close = set_postfix_str

        return Counter
