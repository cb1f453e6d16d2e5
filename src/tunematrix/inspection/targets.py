"""`_target_` → the object it names, and whether it takes the arguments that a config gives."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import get_object

from tunematrix.errors import nearest
from tunematrix.inspection.layout import TARGET
from tunematrix.paths import shown
from tunematrix.spec.problems import Route

OPTIONS = frozenset({TARGET, "_args_", "_partial_", "_recursive_", "_convert_", "_mode_"})
MISSING = "???"


@dataclass(frozen=True)
class TargetNode:
    """One entry of a config that names what is to be built.

    Attributes:
        route: of the entry. values: what it holds.
        is_outermost: whether no other such entry holds it.
    """

    route: Route
    values: Mapping[str, Any]
    is_outermost: bool

    @property
    def target(self) -> str:
        """The dotted name."""
        return str(self.values[TARGET])


@dataclass(frozen=True)
class WrongArgument:
    """What is wrong with one entry: the key below it that is to blame, and why."""

    key: tuple[str | int, ...]
    text: str


@dataclass(frozen=True)
class Lacking:
    """Arguments that a target needs and that the config doesn't give."""

    names: tuple[str, ...]


def target_nodes(values: Any, route: Route = (), outermost: bool = True) -> Iterator[TargetNode]:
    """Yield every entry that names a target, from the top."""
    if isinstance(values, Mapping):
        if is_target := isinstance(values.get(TARGET), str) and values[TARGET] != MISSING:
            yield TargetNode(route, values, outermost)
        for key, value in values.items():
            yield from target_nodes(value, (*route, key), outermost and not is_target)
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from target_nodes(value, (*route, index), outermost)


def locate(name: str, project: Path) -> tuple[Any, str]:
    """Return the object that a dotted name leads to, or None and why there is none."""
    try:
        return get_object(name), ""
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - importing runs code of the user's
        return None, _why_absent(name, project, error)


def _why_absent(name: str, project: Path, error: BaseException) -> str:
    """Say how far a dotted name leads, and what stopped it."""
    parts = name.split(".")
    if not all(parts):
        return f"{name} is not a dotted name; write package.module.Class"
    found: Any = None
    for count in range(1, len(parts) + 1):
        module = ".".join(parts[:count])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as absent:
            if absent.name is None or not (
                module == absent.name or module.startswith(f"{absent.name}.")
            ):
                return _import_failed(module, absent, project)
            if count == 1:
                return _no_module(name, module)
            return _no_attribute(name, found, parts[count - 1 :])
        except KeyboardInterrupt:
            raise
        except BaseException as failure:  # noqa: BLE001 - importing runs code of the user's
            return _import_failed(module, failure, project)
    reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    return f"{name} can't be used: {reason}"


def _no_module(name: str, module: str) -> str:
    here = f"this Python, {sys.executable}, has no module {module}"
    close = nearest(module, set(_packages_on_path()), 1)
    maybe = f", did you mean {close[0]}?" if close else ""
    advice = f"install it here, or correct the name{maybe}"
    return f"{name}: {here}; {advice}"


def _packages_on_path() -> Iterator[str]:
    for folder in dict.fromkeys(sys.path):
        path = Path(folder)
        if path.name != "site-packages" and path.is_dir() and "lib/python" not in str(path):
            yield from (one.stem for one in path.iterdir() if one.suffix == ".py" or one.is_dir())


def _no_attribute(name: str, owner: Any, rest: list[str]) -> str:
    for part in rest[:-1]:
        if not hasattr(owner, part):
            break
        owner = getattr(owner, part)
    absent = next((part for part in rest if not hasattr(owner, part)), rest[-1])
    close = nearest(absent, dir(owner))
    advice = f"did you mean {' or '.join(close)}?" if close else "correct the name"
    return f"{name}: {owner.__name__} has no {absent}; {advice}"


def _import_failed(module: str, error: BaseException, project: Path) -> str:
    place = place_of(error, project)
    where = f" at {place}" if place else ""
    what = " ".join(str(error).split())
    return (
        f"importing {module} failed{where} with {type(error).__name__}: {what}; correct that first"
    )


def place_of(error: BaseException, project: Path) -> str:
    """Return `file:line` of the last line of the project's that an exception came through.

    Of any file, where none is the project's; empty where nothing is known.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{shown(Path(error.filename))}:{error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<")
        and frame.lineno
        and Path(frame.filename) != Path(__file__)
        and "importlib" not in frame.filename
    ]
    own = [
        f
        for f in frames
        if Path(f.filename).is_relative_to(project) and "site-packages" not in f.filename
    ]
    chosen = (own or frames)[-1:]
    return f"{shown(Path(chosen[0].filename))}:{chosen[0].lineno}" if chosen else ""


def fit(found: Any, node: TargetNode) -> Iterator[WrongArgument | Lacking]:
    """Yield what keeps an object from being called with what a config gives."""
    if not callable(found):
        kind = type(found).__name__
        yield WrongArgument(
            (TARGET,), f"{node.target} is a {kind} and can't be called; name a class or a function"
        )
        return
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return  # some written in C have none
    names = [key for key in node.values if key not in OPTIONS]
    positional = node.values.get("_args_") or []
    parameters = signature.parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    known = [
        n for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    unknown = [] if takes_any else [name for name in names if name not in known]
    yield from (_unknown(str(name), known, node.target) for name in unknown)
    given = {str(name): None for name in names if name not in unknown}
    positional = positional if isinstance(positional, list) else []
    try:
        bound = signature.bind_partial(*positional, **given)
    except TypeError as error:
        key: tuple[str | int, ...] = ("_args_",) if positional else (TARGET,)
        yield WrongArgument(
            key, f"{node.target} can't be called with these arguments: {error}; correct them"
        )
        return
    if node.values.get("_partial_") is True or unknown:
        return
    lacking = tuple(
        name
        for name, p in parameters.items()
        if name not in bound.arguments
        and p.default is p.empty
        and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    )
    if lacking:
        yield Lacking(lacking)


def _unknown(name: str, known: Sequence[str], target: str) -> WrongArgument:
    """Say that an argument isn't among those that a target takes."""
    close = nearest(name, known)
    takes = f"it takes {', '.join(known) or 'none'}"
    advice = f"did you mean {' or '.join(close)}?" if close else takes
    return WrongArgument((name,), f"{target} takes no argument {name}; {advice}")
