"""Portions of a suite: real trainers switched on and off, and one of several parts."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence

import pytest

from tunematrix.errors import counted

INTEGRATION = "TUNEMATRIX_INTEGRATION"
"""Variable that switches everything with the marker `integration` off (0) or on (1).

It is the strongest. With 0 nothing that has the marker runs, even if -m names it. With 1 a
`not integration` in -m, perhaps in a project's own settings, is disregarded.
"""

BY_DEFAULT = "tunematrix_integration"
"""Setting of pytest's: whether it runs where neither the variable nor -m says anything."""


def switch(config: pytest.Config, *, asked: bool) -> bool:
    """Return whether what has the marker `integration` may run; make -m disregard a `not`.

    Args:
        config: of pytest.
        asked: whether -m names the marker.

    Raises:
        pytest.UsageError: the variable is neither 0 nor 1.
    """
    value = os.environ.get(INTEGRATION, "")
    if value not in ("", "0", "1"):
        message = f"{INTEGRATION}={value}: expected 0 (leave real trainers out) or 1 (run them)"
        raise pytest.UsageError(message)
    if value == "1":
        either = "(integration or not integration)"
        expression = re.sub(r"\bnot\s+integration\b", either, config.option.markexpr)
        config.option.markexpr = expression
    return value == "1" if value else asked or bool(config.getini(BY_DEFAULT))


def without_integration(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the items that run no real trainer."""
    return [item for item in items if item.get_closest_marker("integration") is None]


def shard(text: str) -> tuple[int, int]:
    """Read which part of how many, as 2/3.

    Raises:
        ValueError: it is none; pytest shows the text with the option.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        message = f"expected a part and their number, such as 1/3 or 3/3, got {text}"
        raise ValueError(message)
    return int(match[1]), int(match[2])


def part_of(items: Sequence[pytest.Item], part: int, parts: int) -> list[pytest.Item]:
    """Return one part of the items; a file is never divided, since relations share cells in it.

    Every item is in exactly one part, and all machines that collect the same agree.

    Raises:
        pytest.UsageError: there are fewer files than parts, so that this one would be empty.
    """
    files: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        files[item.nodeid.partition("::")[0]].append(item)
    loads = [0] * parts
    chosen: set[str] = set()
    for file in sorted(files, key=lambda file: (-len(files[file]), file)):
        lightest = loads.index(min(loads))
        loads[lightest] += len(files[file])
        if lightest == part - 1:
            chosen.add(file)
    if items and not chosen:
        few = counted(len(files), "file", verb=True)
        message = f"--shard {part}/{parts}: only {few} there with something to run"
        raise pytest.UsageError(f"{message}; take at most as many parts")
    return [item for item in items if item.nodeid.partition("::")[0] in chosen]
