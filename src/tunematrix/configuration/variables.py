"""`{name}` in a text of a config: which there are, and their values put in their place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

# A word, or one of several models of the step `download`: `{download.tiny-1.5}`.
_NAME = r"\w+|download\.[^{}]+"
# `{{name}}` is no variable, and `${NAME}` one of the environment, which stays as it is.
_VARIABLE = re.compile(rf"\{{\{{(?:{_NAME})\}}\}}|(?<!\$)\{{({_NAME})\}}")
_BRACES = re.compile(rf"(?<!\$)\{{({_NAME})\}}")


def variables_in(text: str) -> Iterator[str]:
    """Yield the names of a text's variables."""
    yield from (match[1] for match in _VARIABLE.finditer(text) if match[1])


def filled(value: Any, variables: Mapping[str, str]) -> Any:
    """Return plain data with the values of variables in all its texts.

    Raises:
        KeyError: one has no value.
    """
    if isinstance(value, str):
        return _VARIABLE.sub(lambda m: variables[m[1]] if m[1] else m[0][1:-1], value)
    if isinstance(value, dict):
        return {key: filled(entry, variables) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [filled(entry, variables) for entry in value]
    return value


def kept(value: Any) -> Any:
    """Return plain data that `filled` turns into what it is now: braces in it are doubled."""
    if isinstance(value, str):
        return _BRACES.sub(r"{{\1}}", value)
    if isinstance(value, dict):
        return {key: kept(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [kept(entry) for entry in value]
    return value
