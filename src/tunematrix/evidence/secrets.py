"""Credentials of the environment are taken out of every text before it is kept or shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

# TOKENIZERS_PARALLELISM is no secret.
_SECRET_NAME = re.compile(r"TOKEN(?!IZ)|SECRET|PASSWORD|KEY")
# A shorter value hides little, and taking out every "true" or "1" would ruin the text.
_SHORTEST_SECRET = 6


def secrets_in(environ: Mapping[str, str]) -> dict[str, str]:
    """Each secret value and what to write in its place, longest first."""
    secrets = {
        value: f"<{name}>"
        for name, value in environ.items()
        if _SECRET_NAME.search(name.upper()) and len(value) >= _SHORTEST_SECRET
    }
    # One secret may contain another: the longer one has to go first.
    return dict(sorted(secrets.items(), key=lambda item: len(item[0]), reverse=True))


def mask_file(path: Path, secrets: Mapping[str, str]) -> None:
    """Take secrets out of a log that nobody writes to any more."""
    if not secrets or not path.is_file():
        return
    text = path.read_bytes()
    without = text
    for value, name in secrets.items():
        without = without.replace(value.encode(), name.encode())
    if without != text:
        path.write_bytes(without)


def masked(text: str, secrets: Mapping[str, str]) -> str:
    """The text with each secret replaced by the name of its variable."""
    for value, name in secrets.items():
        text = text.replace(value, name)
    return text
