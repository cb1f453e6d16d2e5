"""Calls something once a module has been imported, without importing it."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Callable


class WaitingFinder:
    """Stands first among the finders of modules, and lets the others find them.

    Attributes:
        calls: what to call after the import of a module, by its name.
        asking: names that the other finders are being asked for.
    """

    def __init__(self) -> None:
        self.calls: dict[str, Callable[[], None]] = {}
        self.asking: set[str] = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find a module that is waited for as Python would, and see to it that the call is made."""
        if name not in self.calls or name in self.asking:
            return None
        self.asking.add(name)
        try:
            spec = _found_by_others(self, name, path, target)
        finally:
            self.asking.discard(name)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            self._call_after(spec, name)
        return spec

    def _call_after(self, spec: ModuleSpec, name: str) -> None:
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            # So that whoever looks at the loader afterwards finds it as it was.
            del loader.exec_module
            execute(module)
            call = self.calls.pop(name, None)
            if call is not None:
                call()

        try:
            loader.exec_module = exec_module
        except AttributeError:
            self.calls.pop(name)


def _found_by_others(own: WaitingFinder, name: str, path: Any, target: Any) -> ModuleSpec | None:
    for finder in sys.meta_path:
        if finder is not own and hasattr(finder, "find_spec"):
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                return spec
    return None


_waiting = WaitingFinder()


def call_after(name: str, call: Callable[[], None]) -> None:
    """Call `call` once the module `name` has been imported: at once if it already is."""
    if name in sys.modules:
        call()
        return
    _waiting.calls[name] = call
    if _waiting not in sys.meta_path:
        sys.meta_path.insert(0, _waiting)


def forget() -> None:
    """Wait for nothing any more."""
    _waiting.calls.clear()
    if _waiting in sys.meta_path:
        sys.meta_path.remove(_waiting)
