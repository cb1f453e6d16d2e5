"""What the Hub's client raised → which kind of failure it is. Imported where the client is."""

from __future__ import annotations

import errno
import importlib
import json
import socket
from collections.abc import Iterator
from typing import Any

from huggingface_hub import errors
from huggingface_hub.utils import parse_ratelimit_headers

from tunematrix.hub.events import Failed, Kind

# httpx or httpx2: whichever the client's own errors are built on.
_http: Any = importlib.import_module(errors.HfHubHTTPError.__mro__[1].__module__.split(".")[0])
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_BY_CLASS: tuple[tuple[tuple[type[BaseException], ...], Kind], ...] = (
    ((errors.OfflineModeIsEnabled,), Kind.OFFLINE),
    ((_http.TooManyRedirects,), Kind.REDIRECTS),
    ((_http.TimeoutException,), Kind.SLOW),
    ((socket.gaierror,), Kind.NO_ADDRESS),
    ((_http.ConnectError, _http.ProxyError), Kind.UNREACHABLE),
    ((_http.UnsupportedProtocol, _http.InvalidURL), Kind.NOT_A_HUB),
    ((_http.RemoteProtocolError, _http.NetworkError), Kind.CUT),
    ((errors.FileMetadataError, json.JSONDecodeError), Kind.NOT_A_HUB),
)
TRANSIENT = {Kind.RATE_LIMIT, Kind.SERVER_ERROR, Kind.CUT, Kind.SLOW}
"""What may be over a moment later."""


class TooManyBytes(Exception):
    """A body goes on after all of the file has come."""


def failure(error: BaseException, order: int, path: str, *, has_token: bool) -> Failed:
    """Say what kind of failure an error is.

    Args:
        error: what was raised. order, path: with what. has_token: whether one was sent.
    """
    chain = list(_chain(error))
    detail = " ← ".join(dict.fromkeys(type(one).__name__ for one in chain))
    for one in chain:
        response = getattr(one, "response", None)
        if isinstance(one, errors.HfHubHTTPError) and response is not None:
            kind = _of_answer(one, response, has_token=has_token)
            wait = _wait(response.headers)
            return Failed(kind, order, path, int(response.status_code), wait, detail)
    if any(isinstance(one, TooManyBytes) for one in chain):
        return Failed(Kind.ENDLESS, order, path, detail=detail)
    for classes, kind in _BY_CLASS:
        if any(isinstance(one, classes) for one in chain):
            return Failed(kind, order, path, detail=detail)
    return Failed(_of_disk(error), order, path, detail=_about_disk(error) or detail)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _of_answer(error: BaseException, response: Any, *, has_token: bool) -> Kind:
    """Say what an HTTP answer means; what the Hub says in X-Error-Code comes before its number."""
    status, code = int(response.status_code), response.headers.get("X-Error-Code")
    by_code = {
        "GatedRepo": Kind.GATED,
        "RepoNotFound": Kind.NO_REPO,
        "RevisionNotFound": Kind.NO_REVISION,
        "EntryNotFound": Kind.NO_FILE,
    }
    if code in by_code:
        return by_code[code]
    if status == 401:
        return Kind.TOKEN_WRONG if has_token else Kind.TOKEN_MISSING
    if status == 404:
        return Kind.NO_FILE if "/api/" not in response.url.path else Kind.NO_REPO
    if isinstance(error, errors.DisabledRepoError) or status == 403:
        return Kind.FORBIDDEN
    if status == 429:
        return Kind.RATE_LIMIT
    return Kind.SERVER_ERROR if status >= 500 else Kind.OTHER


def _wait(headers: Any) -> int:
    text = headers.get("Retry-After", "").strip()
    if text.isdigit():
        return int(text)
    limit = parse_ratelimit_headers(headers)
    return limit.reset_in_seconds if limit is not None else 0


def _of_disk(error: BaseException) -> Kind:
    if not isinstance(error, OSError):
        return Kind.OTHER
    if error.errno is None:
        # The client's own check of the size: an OSError that no system call raised.
        return Kind.WRONG_SIZE if type(error) is OSError else Kind.OTHER
    return Kind.DISK_FULL if error.errno in _FULL else Kind.CANT_WRITE


def _about_disk(error: BaseException) -> str:
    return (error.strerror or "").lower() if isinstance(error, OSError) else ""
