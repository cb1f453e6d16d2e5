"""Credentials of the environment are taken out of every text before it is kept or shown."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

# TOKENIZERS_PARALLELISM is no secret, and PWD alone is where one works.
_SECRET_NAME = re.compile(
    r"TOKEN(?!IZ)|SECRET|PASSWORD|PASSWD|PASSPHRASE|KEY|CREDENTIAL|COOKIE|WEBHOOK"
    r"|(?:^|_)(?:PASS|AUTH|PAT|SAS)(?:_(?!SOCK)|$)|_PWD$(?<!OLD_PWD)"
)
_PASSWORD_IN_URL = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")
_TOKEN_OF_THE_HUB = re.compile(r"hf_\w{6,}")
# A shorter value hides little, and taking out every "true" or "1" would ruin the text.
_SHORTEST_SECRET = 6
_PIECE = 1 << 20


def snapshot(environ: Mapping[str, str]) -> dict[str, str]:
    """What a mapping holds, though another thread adds to it or removes from it meanwhile."""
    values = {name: environ.get(name) for name in list(environ)}
    return {name: value for name, value in values.items() if value is not None}


def secrets_in(environ: Mapping[str, str]) -> dict[str, str]:
    """Each secret value and what to write in its place, longest first.

    A variable is secret by its name; of any other, the password of a URL in it is.
    """
    secrets: dict[str, str] = {}
    # Another thread may take a variable out meanwhile, as pytest does before and after each test.
    for name, value in snapshot(environ).items():
        is_secret = _SECRET_NAME.search(name.upper()) is not None
        values = [value.strip()] if is_secret else _PASSWORD_IN_URL.findall(value)
        secrets |= {one: f"<{name}>" for one in values if len(one) >= _SHORTEST_SECRET}
    # One secret may contain another: the longer one has to go first.
    return dict(sorted(secrets.items(), key=lambda item: len(item[0]), reverse=True))


def masked(text: str, secrets: Mapping[str, str]) -> str:
    """The text with each secret replaced by the name of its variable."""
    for value, name in secrets.items():
        text = text.replace(value, name)
    return text


def redacted(text: str) -> str:
    """Return a text without the passwords of URLs and what looks like a token of the Hub."""
    without = _PASSWORD_IN_URL.sub(lambda found: found[0].replace(found[1], "…"), text)
    return _TOKEN_OF_THE_HUB.sub("hf_…", without)


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
    # As it is, and as JSON has it, in which a quote or an umlaut looks otherwise.
    forms = {json.dumps(value)[1:-1]: name for value, name in secrets.items()} | dict(secrets)
    names = {value.encode(): forms[value].encode() for value in sorted(forms, key=len)[::-1]}
    pattern = re.compile(b"|".join(map(re.escape, names)))
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
