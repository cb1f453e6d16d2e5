"""Functions of libraries with something of ours before and after them, until that is undone."""

from __future__ import annotations

import functools
from typing import Any, Callable

import torch


def _found_is_compiling() -> Callable[[], bool]:
    compiler: Any = getattr(torch, "compiler", None)
    if hasattr(compiler, "is_compiling"):
        return compiler.is_compiling
    return torch._utils.is_compiling  # before PyTorch 2.3


UNCOUNTED = f"{__file__} (importlib._bootstrap)"
"""File of what stands around a function: Python leaves frames of the import system out where it
counts those between a warning and the line that it is about, and tells them by this name."""
is_compiling = _found_is_compiling()
"""Whether torch.compile is looking at what runs: of ours it must see nothing."""


class Patches:
    """What has been put around functions, so that it can be taken away again.

    Args:
        fell_over: takes the part of the probe, and the error that it has raised.
    """

    def __init__(self, fell_over: Callable[[str, Exception], None]) -> None:
        self._fell_over = fell_over
        self._undo: list[Callable[[], None]] = []

    def around(
        self,
        part: str,
        owner: Any,
        name: str,
        before: Callable[..., Any] | None = None,
        after: Callable[..., None] | None = None,
        failed: Callable[[], None] | None = None,
    ) -> None:
        """Call `before(*args, **kwargs)` and `after(result, *args, **kwargs)` around a function.

        What they raise goes no further. `owner` is a module or a class that defines `name` itself;
        where it doesn't, nothing is done. `failed` is called in place of `after` where the function
        raises. `before` may return other arguments to pass on, as (args, kwargs).
        """
        original = vars(owner).get(name)
        if not callable(original):
            return

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            if is_compiling():
                return original(*args, **kwargs)
            changed = self._call(part, before, *args, **kwargs)
            if changed is not None:
                args, kwargs = changed
            try:
                result = original(*args, **kwargs)
            except BaseException:
                self._call(part, failed)
                raise
            self._call(part, after, result, *args, **kwargs)
            return result

        own: Any = call
        own.__code__ = own.__code__.replace(co_filename=UNCOUNTED)
        setattr(owner, name, call)

        def undo() -> None:
            # Somebody may have put something of theirs around ours meanwhile; then it stays.
            if vars(owner).get(name) is call:
                setattr(owner, name, original)

        self._undo.append(undo)

    def _call(self, part: str, function: Any, *a: Any, **k: Any) -> Any:
        if function is not None:
            try:
                return function(*a, **k)
            except Exception as error:
                self._fell_over(part, error)
        return None

    def add(self, undo: Callable[[], None]) -> None:
        """Remember how something else is undone."""
        self._undo.append(undo)

    def undo(self) -> None:
        """Take everything away, the last first."""
        while self._undo:
            self._undo.pop()()
