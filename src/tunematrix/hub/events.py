"""What the process that downloads is asked, and what it says: dataclasses, a line of JSON each."""

from __future__ import annotations

import dataclasses
import enum
import json
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args


class Kind(enum.StrEnum):
    """What went wrong between here and the Hub, or on this disk."""

    NO_LIBRARY = "no_library"
    UNREACHABLE = "unreachable"
    NO_ADDRESS = "no_address"
    NOT_A_HUB = "not_a_hub"
    TOKEN_MISSING = "token_missing"
    TOKEN_WRONG = "token_wrong"
    GATED = "gated"
    FORBIDDEN = "forbidden"
    NO_REPO = "no_repo"
    NO_REVISION = "no_revision"
    NO_FILE = "no_file"
    UNMATCHED = "unmatched"
    UNSAFE_PATH = "unsafe_path"
    RATE_LIMIT = "rate_limit"
    SERVER_ERROR = "server_error"
    CUT = "cut"
    SLOW = "slow"
    HANG = "hang"
    WRONG_SIZE = "wrong_size"
    WRONG_HASH = "wrong_hash"
    ENDLESS = "endless"
    REDIRECTS = "redirects"
    BUSY = "busy"
    DISK_FULL = "disk_full"
    CANT_WRITE = "cant_write"
    OFFLINE = "offline"
    DIED = "died"
    OTHER = "other"


@dataclass(frozen=True)
class ModelOrder:
    """One repository to download; `files` are names and patterns."""

    repo: str
    revision: str
    files: tuple[str, ...]
    output_dir: str


@dataclass(frozen=True)
class DownloadJob:
    """All that one process is to do; of the token, it is told the variable alone."""

    token_variable: str
    dry_run: bool
    verbose: bool
    orders: tuple[ModelOrder, ...]


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository.

    Attributes:
        path: in the repository; size: bytes.
        sha256: of its content; empty where the Hub doesn't say, as it does of large files alone.
        blob: the SHA-1 that git has of it; empty where sha256 is known.
    """

    path: str
    size: int
    sha256: str = ""
    blob: str = ""


@dataclass(frozen=True)
class Listed:
    """A repository was looked up: `files` are the wanted ones, of `total` that it has.

    Attributes:
        offline: whether nobody was asked, and this is what an earlier download has listed.
    """

    order: int
    commit: str
    files: tuple[RemoteFile, ...]
    total: int
    offline: bool = False


@dataclass(frozen=True)
class Waiting:
    """Another download is at work in the folder; this one begins once that has ended."""

    order: int


@dataclass(frozen=True)
class Begun:
    """A file is being fetched."""

    order: int
    path: str
    size: int


@dataclass(frozen=True)
class Got:
    """So many bytes of the file are here."""

    order: int
    path: str
    received: int


@dataclass(frozen=True)
class Done:
    """A file is whole and checked; `deed` is fetched, replaced, resumed, copied or there."""

    order: int
    path: str
    size: int
    sha256: str
    deed: str


@dataclass(frozen=True)
class Received:
    """All files of a repository are there and checked, and its receipt lists them."""

    order: int


@dataclass(frozen=True)
class Remark:
    """Something worth a line, that isn't an error yet."""

    text: str


@dataclass(frozen=True)
class Failed:
    """The end of it.

    Attributes:
        kind: what went wrong; order: with which repository; path: with which file of it.
        status: HTTP's, 0 for none; retry_after: seconds that the server asks for, 0 for none.
        detail: what else is known, in words of ours or a class's name.
        names: what there is instead of what was asked for.
    """

    kind: Kind
    order: int = 0
    path: str = ""
    status: int = 0
    retry_after: int = 0
    detail: str = ""
    names: tuple[str, ...] = ()


class Stopped(Exception):
    """Ends the process that downloads, with what it has to say."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.kind)
        self.failed = failed


@dataclass(frozen=True)
class AllDone:
    """All that was asked for is done."""


Message: TypeAlias = Listed | Waiting | Begun | Got | Done | Received | Remark | Failed | AllDone
_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Message)}


def packed(message: Message | DownloadJob) -> str:
    """Return a line of JSON."""
    return json.dumps({"is": type(message).__name__, **dataclasses.asdict(message)})


def unpacked(line: bytes | str) -> Message:
    """Return the message that a line is."""
    fields: dict[str, Any] = json.loads(line)
    kind = _KINDS[fields.pop("is")]
    if kind is Listed:
        fields["files"] = tuple(RemoteFile(**entry) for entry in fields["files"])
    if kind is Failed:
        fields |= {"kind": Kind(fields["kind"]), "names": tuple(fields["names"])}
    message: Message = kind(**fields)
    return message


def unpacked_job(line: str) -> DownloadJob:
    """Return the job that a line is."""
    fields: dict[str, Any] = json.loads(line)
    del fields["is"]
    return DownloadJob(**{**fields, "orders": tuple(_order(entry) for entry in fields["orders"])})


def _order(fields: dict[str, Any]) -> ModelOrder:
    return ModelOrder(**{**fields, "files": tuple(fields["files"])})
