"""Credentials of the environment are taken out of every text before it is kept or shown."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, quote_plus, unquote

# TOKENIZERS_PARALLELISM is no secret, and PWD alone is where one works.
_SECRET_NAME = re.compile(
    r"TOKEN(?!IZ)|SECRET|PASSWORD|PASSWD|PASSPHRASE|KEY|CREDENTIAL|COOKIE|WEBHOOK|BEARER"
    r"|CONN(?:ECTION)?_?STR"
    r"|(?:^|_)(?:PASS|AUTH|PAT|SAS|DSN|JWT)(?:_(?!SOCK)|$)|_PWD$(?<!OLD_PWD)"
)
# With one slash where somebody has taken it for a path.
_PASSWORD_IN_URL = re.compile(r":/{1,2}[^/\s:@]*:([^/\s]+)@")
# Hosts of Git and of packages take a token in the place of the user.
_TOKEN_FOR_USER = re.compile(r"https?:/{1,2}([^/\s:@]{16,})(?::[^/\s]*)?@")
_SIGNED_URL = re.compile(
    r":/{1,2}\S*?[?&](?:\w*(?:token|key|secret|password|signature)|auth|pass|sig)=([^\s&#]+)",
    re.IGNORECASE,
)
_IN_URL = (_PASSWORD_IN_URL, _TOKEN_FOR_USER, _SIGNED_URL)
# A real one has 34 letters and digits; people call files and tests hf_trainer, too.
_TOKEN_OF_THE_HUB = re.compile(r"\bhf_[A-Za-z0-9]{20,}")
# A shorter value hides little, and taking out every "true" or "1" would ruin the text.
_SHORTEST_SECRET = 6
# Of a key of several lines, JSON with a key in it or a header, each word that nobody would type.
_PART = re.compile(r"[A-Za-z0-9+/_.~-]{16,}={0,2}")
# Of a shorter one, base64 has too few letters that don't depend on what stands around it.
_SHORTEST_ENCODED = 12
_PIECE = 1 << 20
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def snapshot(environ: Mapping[str, str]) -> dict[str, str]:
    """What a mapping holds, though another thread adds to it or removes from it meanwhile."""
    values = {name: environ.get(name) for name in list(environ)}
    return {name: value for name, value in values.items() if value is not None}


def secrets_in(environ: Mapping[str, str]) -> dict[str, str]:
    """Each secret value and what to write in its place, longest first.

    A variable is secret by its name; of any other, the credentials of URLs in it are.
    """
    secrets: dict[str, str] = {}
    # Another thread may take a variable out meanwhile, as pytest does before and after each test.
    for name, value in snapshot(environ).items():
        values = _whole_and_parts(value.strip()) if _is_secret(name) else _in_urls(value)
        secrets |= {one: f"<{name}>" for one in values if len(one) >= _SHORTEST_SECRET}
    # One secret may contain another: the longer one has to go first.
    return dict(sorted(secrets.items(), key=lambda item: len(item[0]), reverse=True))


def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name.upper()) is not None


def _whole_and_parts(value: str) -> list[str]:
    lines = [line.strip() for line in value.splitlines() if len(line) >= _SHORTEST_ENCODED]
    # An option is cut off where an = follows, and so is base64 where nobody needs its end.
    whole = [value, value.rstrip("=")]
    return list(dict.fromkeys([*whole, *lines, *_PART.findall(value), *_in_urls(value)]))


def _in_urls(text: str) -> list[str]:
    """Return what URLs hold of credentials, as it is written there and as a server gets it."""
    if "://" not in text:
        return []
    found = [one for pattern in _IN_URL for one in pattern.findall(text)]
    return list(dict.fromkeys([*found, *map(unquote, found)]))


def masked(text: str, secrets: Mapping[str, str]) -> str:
    """The text with each secret replaced by the name of its variable, however it is written."""
    if not secrets or not text:
        return text
    pattern, names = _forms(tuple(secrets.items()))
    return pattern.sub(lambda found: names[found[0]], text)


def masked_all(value: Any, secrets: Mapping[str, str]) -> Any:
    """Return data in which each text is masked, names of fields too; the rest stays as it is."""
    if isinstance(value, str):
        return masked(value, secrets)
    if isinstance(value, Mapping):
        return {masked_all(key, secrets): masked_all(one, secrets) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(masked_all(one, secrets) for one in value)
    return value


@lru_cache(maxsize=16)
def _forms(secrets: tuple[tuple[str, str], ...]) -> tuple[re.Pattern[str], Mapping[str, str]]:
    """Return what finds secrets in a text, and what each of their forms is replaced by."""
    names: dict[str, str] = {}
    for value, name in secrets:
        for form in _written(value):
            names.setdefault(form, name)
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))), names


def _written(value: str) -> Iterator[str]:
    """Yield a value as it is, and as Python, JSON, Typer, XML, URLs and headers have it."""
    yield value
    for quoted in (repr(value), json.dumps(value), json.dumps(value, ensure_ascii=False)):
        yield quoted[1:-1]
        yield repr(quoted[1:-1])[1:-1]
    yield _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", value)
    yield from (html.escape(value), html.escape(value, quote=False))
    yield from (html.escape(value).replace("&#x27;", "&#39;"), " ".join(value.split()))
    content = value.encode("utf-8", "surrogateescape")
    yield from (quote(content), quote(content, safe=""), quote_plus(content))
    if len(content) < _SHORTEST_ENCODED:
        return
    for before in range(3):  # what stands in front of it shifts it by so many bytes
        coded = base64.b64encode(b"\0" * before + content).decode()
        coded = coded[(0, 2, 3)[before] :]
        # The last group depends on what comes after it.
        last = (len(content) + before) % 3
        yield coded[: len(coded) - (4 if last else 0)] + (coded[-4:][:last] if last else "")


def redacted(text: str) -> str:
    """Return a text without the credentials of URLs and what looks like a token of the Hub."""
    for pattern in _IN_URL:
        text = pattern.sub(lambda found: found[0].replace(found[1], "…"), text)
    return _TOKEN_OF_THE_HUB.sub("hf_…", text)


def mask_file(path: Path, secrets: Mapping[str, str]) -> None:
    """Take secrets out of a log that nobody writes to any more.

    However long it is, little of it is in memory at once. What is no regular file of this folder
    alone (a link to another place, a pipe) is left as it is: it isn't ours to write to.
    """
    if not secrets or not _is_own_file(path):
        return
    draft = path.with_name(f"{path.name}.masked")
    with path.open("rb") as log, draft.open("wb") as masked_log:
        found = _mask(log, masked_log, secrets)
    if found:
        draft.replace(path)
    else:
        draft.unlink()


def _is_own_file(path: Path) -> bool:
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _mask(log: BinaryIO, masked_log: BinaryIO, secrets: Mapping[str, str]) -> bool:
    """Copy a log piece by piece, without its secrets; return whether there were any."""
    texts, forms = _forms(tuple(secrets.items()))
    pattern = re.compile(texts.pattern.encode("utf-8", "surrogateescape"))
    names = {form.encode("utf-8", "surrogateescape"): name.encode() for form, name in forms.items()}
    longest = max(map(len, names))
    found, rest = False, b""
    while piece := log.read(_PIECE):
        rest += piece
        # A secret that begins before this is whole; one that begins after it may not be yet.
        whole = max(0, len(rest) - longest + 1)
        done = 0
        for match in pattern.finditer(rest):
            if match.start() >= whole:
                break
            masked_log.write(rest[done : match.start()] + names[match.group()])
            done, found = match.end(), True
        masked_log.write(rest[done : max(done, whole)])
        rest = rest[max(done, whole) :]
    left = pattern.sub(lambda match: names[match.group()], rest)
    masked_log.write(left)
    return found or left != rest
