"""What somebody writes to name a set of packages → what they ask for.

`2025-06-30` is what an installer would have taken on that day, `requirements.txt` (or uv.lock,
pylock.toml) what a lock names, `transformers==5.10.1,peft==0.20.0` those over the environment,
`venv/bin/python` what that Python has, and the environment's own name the environment as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from tunematrix.environments.locks import normalized
from tunematrix.errors import BadInput

WAYS = """a set is named by one of these:
  2025-06-30               what an installer would have taken on that day
  requirements.txt         a lock: a file of pins, uv.lock or pylock.toml
  trl==1.15.0,peft==0.20.0 these, and else what the environment has
  venv/bin/python          what that Python has
  {environment:<24} the environment as it is"""


@dataclass(frozen=True)
class AsItIs:
    """The environment as it is."""


@dataclass(frozen=True)
class OnDay:
    """What an installer would have taken on a day.

    Attributes:
        day: whose end counts.
    """

    day: date


@dataclass(frozen=True)
class ByPins:
    """Some packages, and else what the environment has.

    Attributes:
        pins: normalized name to version.
    """

    pins: Mapping[str, str]


@dataclass(frozen=True)
class ByLock:
    """What a lock names.

    Attributes:
        path: requirements.txt, uv.lock or pylock.toml.
    """

    path: Path


@dataclass(frozen=True)
class ByPython:
    """What another Python has.

    Attributes:
        path: the program.
    """

    path: Path


Asked = AsItIs | OnDay | ByPins | ByLock | ByPython


def read_asked(text: str, environment: str) -> Asked:
    """Read how somebody names a set.

    Args:
        text: what they wrote. environment: name of the environment that sets are laid over.

    Raises:
        BadInput: it names none.
    """
    if text == environment:
        return AsItIs()
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        return OnDay(_day(text))
    path = Path(text).expanduser()
    if path.is_file():
        return ByPython(path) if _is_program(path) else ByLock(path)
    if "==" in text:
        return ByPins(_pins(text))
    problem = f"there is no file {text}"
    if path.exists():
        problem = f"{text} is a folder" if path.is_dir() else f"{text} is no file of text"
    raise BadInput(f"{problem}; {WAYS.format(environment=environment)}")


def _day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise BadInput(f"{text} is no day: {error}; write one as 2025-06-30") from None
    if day > datetime.now(UTC).date():
        raise BadInput(f"{text} is still to come; name a day that is over, or {_today()}")
    return day


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _pins(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(","):
        try:
            wanted = Requirement(part)
        except InvalidRequirement as error:
            problem = str(error).partition("\n")[0]
            raise BadInput(f"{part!r} is no pin ({problem}); write PACKAGE==VERSION") from None
        operators = [one.operator for one in wanted.specifier]
        if operators != ["=="] or "*" in str(wanted.specifier):
            raise BadInput(f"{part!r} leaves a choice; write PACKAGE==VERSION")
        if wanted.marker or wanted.extras:
            raise BadInput(f"{part!r} has an extra or a marker; write PACKAGE==VERSION")
        name = normalized(wanted.name)
        if name in found:
            raise BadInput(f"{name} is pinned twice in {text}; name it once")
        (pin,) = wanted.specifier
        found[name] = pin.version
    return found


def _is_program(path: Path) -> bool:
    return path.name.startswith("python") and os.access(path, os.X_OK)
