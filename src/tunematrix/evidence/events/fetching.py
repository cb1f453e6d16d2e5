"""What is written down of a download; `name` is the step's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FetchedFile:
    """A file of a model that was downloaded; what isn't known, or isn't there, is empty.

    Attributes:
        path: in the repository; size: bytes, as the hub says.
        hub_sha256: what the hub says that its SHA-256 is, of large files alone.
        hub_blob: what the hub says that git's SHA-1 of it is, of all others.
        listed: its SHA-256 in the receipt that the download has left.
        sha256, blob: of what lies on the disk afterwards.
    """

    path: str
    size: int
    hub_sha256: str
    hub_blob: str
    listed: str
    sha256: str
    blob: str


@dataclass(frozen=True)
class StepFetched:
    """A model was downloaded, or was there already.

    Attributes:
        repo: its name on the hub; revision: branch, tag or commit that was asked for.
        hub: address that was asked; empty where nobody was, and `commit` and the hub's hashes are
            those of an earlier download.
        commit: what the hub says that the revision is.
        listed: commit in the receipt that the download has left; empty without one.
        output_dir: folder that the files lie in.
        files: those that were wanted.
    """

    name: str
    repo: str
    revision: str
    hub: str
    commit: str
    listed: str
    output_dir: str
    files: tuple[FetchedFile, ...]
