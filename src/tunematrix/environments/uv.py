"""uv, asked to do one thing: its output, or its own last words as the reason why not."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tunematrix.environments import sources
from tunematrix.errors import BadInput, MachineProblem

_FULL = re.compile(rf"\b(os error|Errno) {errno.ENOSPC}\b")
_OF_AN_INDEX = ("Failed to fetch", "unexpected JSON", "unexpected HTML", "Missing `Content-Type`")
"""What uv says where an index can't be reached, or doesn't answer as one does."""
_NO_SOLUTION = "No solution found"
LINES = 12
"""Of what an installer says last, which are shown."""
LONGEST = 500
"""Characters of such a line that are shown."""


class IndexAway(MachineProblem):
    """An index of packages can't be reached, or doesn't answer as one does."""


def program() -> str:
    """Return where uv lies: beside the Python at work, or on PATH.

    Raises:
        MachineProblem: there is none.
    """
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    if found := shutil.which("uv", path=places):
        return found
    text = "uv is needed and isn't there: it resolves and installs what is added to your versions"
    raise MachineProblem(f"{text}; python -m pip install uv")


def ask(*arguments: str | Path, advice: str, given: str = "", beside: Sequence[Path] = ()) -> str:
    """Let uv do something, with pip's settings of where packages come from; return its output.

    Args:
        arguments: of uv. advice: what to do if it can't, after its reason. given: its input.
        beside: folders of wheels that count too, beside where pip is told to look.

    Raises:
        BadInput: uv says that it can't.
        IndexAway: it needs an index that can't be reached.
        MachineProblem: there is no uv, or no space.
    """
    told, settings = _settings(beside)
    options = settings if arguments[0] in ("pip", "tool") else ()
    command = [program(), *map(str, arguments[:2]), *options, *map(str, arguments[2:])]
    # Nothing of the virtualenv that this runs in may be taken for the one that is meant.
    env = {k: v for k, v in {**os.environ, **told}.items() if k != "VIRTUAL_ENV"}
    ended = subprocess.run(
        command, input=given, capture_output=True, text=True, env=env, check=False
    )
    if ended.returncode:
        said = ended.stderr or ended.stdout
        if is_full(said):
            text = "no space is left where packages are installed, or in uv's cache"
            raise MachineProblem(f"{text}; make room (uv cache clean), and run this again")
        reason = last_words(said).replace("\n", "\n  ")
        verbs = " ".join(str(one) for one in arguments[:2] if not str(one).startswith("-"))
        if is_unreachable(said):
            text = f"uv {verbs} failed, since an index of packages can't be reached:\n  {reason}"
            reach = "See that it can be reached, and that pip's and uv's settings name it rightly"
            raise IndexAway(f"{text}\n  {reach}")
        raise BadInput(f"uv {verbs} failed:\n  {reason}\n  {advice}")
    return ended.stdout


def is_full(said: str) -> bool:
    """Whether what uv, or pip in it, has said quotes the system's error for a full disk."""
    return bool(_FULL.search(said))


def is_unreachable(said: str) -> bool:
    """Whether what uv has said is that an index can't be reached."""
    return _NO_SOLUTION not in said and any(one in said for one in _OF_AN_INDEX)


def last_words(text: str) -> str:
    """Return the end of what an installer said."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    ends = [line if len(line) <= LONGEST else f"{line[:LONGEST]}…" for line in lines[-LINES:]]
    return "\n".join(ends) or "the installer said nothing"


def _settings(beside: Sequence[Path]) -> tuple[Mapping[str, str], tuple[str, ...]]:
    settings = sources.pip_settings()
    alone = ("--no-index",) if sources.without_index(settings) else ()
    told = sources.as_uv(settings, os.environ)
    del told["UV_COMPILE_BYTECODE"]  # what is installed here keeps its bytecode elsewhere
    if beside:
        given = told.get("UV_FIND_LINKS") or os.environ.get("UV_FIND_LINKS")
        told["UV_FIND_LINKS"] = ",".join([*map(str, beside), *filter(None, [given])])
    return told, alone
