"""Scalar values → Hydra's override grammar, so that each arrives as exactly the value it was."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tunematrix.spec.values import Scalar

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_NOT_TEXT = {"true", "false", "null", "nan", "inf"}


def hydra_override(key: str, value: Scalar | Sequence[Scalar]) -> str:
    """Return `key=value` for Hydra; text is quoted where it could be read as something else."""
    if isinstance(value, str | bool | int | float):
        return f"{key}={_written(value)}"
    return f"{key}=[{','.join(map(_written, value))}]"


def _written(value: Scalar) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return repr(value)
    if _BARE.fullmatch(value) and value.lower() not in _NOT_TEXT:
        return value
    # Hydra halves the backslashes before a quote, and only those.
    doubled = re.sub(r"(\\+)(?='|\Z)", r"\1\1", value)
    return "'" + doubled.replace("'", "\\'") + "'"
