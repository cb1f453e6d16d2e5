"""A composed config → plain values, and every interpolation that can't be resolved."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import Container, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import (
    GrammarParseError,
    InterpolationToMissingValueError,
    OmegaConfBaseException,
    UnsupportedInterpolationType,
)

from tunematrix.errors import nearest
from tunematrix.spec.problems import Route, dotted

MISSING = "???"
_NODE = re.compile(r"\$\{\s*(\.*[^${}:\s]+)\s*\}")
_RESOLVER = re.compile(r"\$\{\s*([\w.]+)\s*:")
_VARIABLE = re.compile(r"\$\{\s*oc\.env\s*:\s*([\w]+)\s*\}")


@dataclass(frozen=True)
class Unresolved:
    """An interpolation that can't be resolved, and for which its author is to blame.

    Attributes:
        route: of the entry that holds it. text: what is wrong, and what to do.
        key: the key that is missing, or empty. resolver: the one that isn't registered, or empty.
    """

    route: Route
    text: str
    key: str = ""
    resolver: str = ""


@dataclass
class Interpolated:
    """A config with all interpolations resolved.

    Attributes:
        values: the config as plain data; `???` stands for what isn't known yet.
        unresolved: what can't be resolved. missing: routes of `???`.
        variables: environment variables that it needs and that aren't set.
        followers: dotted keys whose value refers to another key, or to what Hydra knows.
    """

    values: Any = None
    unresolved: list[Unresolved] = field(default_factory=list)
    missing: list[Route] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)
    followers: list[str] = field(default_factory=list)


def resolve(config: Container, hydra: DictConfig | None = None) -> Interpolated:
    """Resolve every interpolation of a config; those that can't be are all in the result.

    Args:
        config: with what Hydra itself adds under `hydra`.
        hydra: the keys of that which the user has written; no others are looked at.
    """
    return _Resolution(config, hydra).result()


class _Resolution:
    def __init__(self, config: Container, hydra: DictConfig | None) -> None:
        self.config = config
        self.hydra = hydra
        self.resolved = Interpolated()
        self.failed: dict[Route, tuple[str, Exception]] = {}

    def result(self) -> Interpolated:
        self.resolved.values = self.walk(self.config, ())
        # Much of Hydra's own is known only while it runs.
        self.resolved.missing = [to for to in self.resolved.missing if to[:1] != ("hydra",)]
        for route, (raw, error) in self.failed.items():
            self.explain(route, raw, error)
        return self.resolved

    def walk(self, node: Any, route: Route) -> Any:
        if isinstance(node, Container) and (node._is_none() or node._is_missing()):
            return None if node._is_none() else self.note_missing(route)
        if isinstance(node, DictConfig):
            keys = self.keys(node, route)
            return {key: self.entry(node, key, (*route, key)) for key in keys}
        if isinstance(node, ListConfig):
            return [self.entry(node, i, (*route, i)) for i in range(len(_items(node)))]
        return node

    def keys(self, node: DictConfig, route: Route) -> list[Any]:
        """Return the keys of a section; of Hydra's own, those that the user has written."""
        mask: Any = self.hydra if route[:1] == ("hydra",) else None
        for part in route[1:] if mask is not None else ():
            mask = mask._get_node(part) if isinstance(mask, DictConfig) else None
        content = _content(node)
        return [key for key in content if not isinstance(mask, DictConfig) or key in _content(mask)]

    def note_missing(self, route: Route) -> str:
        self.resolved.missing.append(route)
        return MISSING

    def entry(self, parent: Any, key: Any, route: Route) -> Any:
        child = parent._get_node(key)
        if child is None or child._is_missing():
            return self.note_missing(route)
        if not child._is_interpolation():
            return self.walk(child, route) if isinstance(child, Container) else child._value()
        raw = str(child._value())
        if _NODE.search(raw) or "hydra:" in raw:
            self.resolved.followers.append(dotted(route))
        try:
            value = parent[key]
            if isinstance(value, Container):
                # Where it stands, its own entries are looked at.
                return OmegaConf.to_container(value, resolve=True, throw_on_missing=False)
        except InterpolationToMissingValueError:
            return MISSING
        except (OmegaConfBaseException, RecursionError) as error:
            self.failed[route] = (raw, error)
            return MISSING
        except Exception as error:  # noqa: BLE001 - a resolver of the user's raised it
            self.failed[route] = (raw, error)
            return MISSING
        return value

    def explain(self, route: Route, raw: str, error: Exception) -> None:
        variables = [name for name in _VARIABLE.findall(raw) if name not in os.environ]
        if variables:
            self.resolved.variables += variables
            return
        add = self.resolved.unresolved.append
        references = list(self.references(route, raw))
        if absent := [(name, to) for name, to in references if not self.exists(to)]:
            for name, to in absent:
                add(Unresolved(route, self.absence(name, to), key=dotted(to)))
            return
        if way := self.circle(route):
            if way[0] == min(way, key=str):  # once, not for each entry on its way
                names = " → ".join(dotted(one) for one in (*way, way[0]))
                add(Unresolved(route, f"{raw} goes in a circle: {names}; give one of them a value"))
            return
        if any(self.is_spoilt(to) for _, to in references):
            return  # said where the other one stands
        if isinstance(error, UnsupportedInterpolationType):
            name = next((n for n in _RESOLVER.findall(raw) if not OmegaConf.has_resolver(n)), "")
            text = (
                f"{raw}: no resolver {name} is registered; register it in a module of the project"
            )
            close = nearest(name, _RESOLVERS)
            text += f", or did you mean {' or '.join(close)}?" if close else ""
            add(Unresolved(route, text, resolver=name or "?"))
        elif "${hydra:" in raw.replace(" ", ""):
            return  # known only while Hydra runs
        elif isinstance(error, GrammarParseError):
            add(
                Unresolved(
                    route, f"{raw} is not a valid interpolation; write ${{key}} or \\${{text}}"
                )
            )
        else:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            add(Unresolved(route, f"{raw} can't be resolved: {reason}; correct it"))

    def references(self, route: Route, raw: str) -> Iterator[tuple[str, Route]]:
        """Yield the keys that a text refers to, as written and as a route from the top."""
        for name in _NODE.findall(raw):
            dots = len(name) - len(name.lstrip("."))
            base = route[: len(route) - dots] if dots else ()
            yield name, (*base, *_parts(name.lstrip(".")))

    def exists(self, route: Route) -> bool:
        return self.node(route) is not None

    def node(self, route: Route) -> Any:
        """Return the node at a route, through interpolations of its parents; None for none."""
        node: Any = self.config
        for part in route:
            if node is None or (isinstance(node, Container) and node._is_interpolation()):
                try:
                    node = node._maybe_dereference_node() if node is not None else None
                except OmegaConfBaseException:
                    return _SPOILT
            if isinstance(node, ListConfig):
                if not str(part).lstrip("-").isdigit() or int(part) >= len(_items(node)):
                    return None
                node = node._get_node(int(part))
            elif isinstance(node, DictConfig):
                if node._is_missing():
                    return _SPOILT
                if node._is_none():
                    return None
                keys = {str(key): key for key in _content(node)}
                node = node._get_node(keys[str(part)]) if str(part) in keys else None
            else:
                return None if node is not _SPOILT else node
        return node

    def absence(self, name: str, to: Route) -> str:
        parent = self.node(to[:-1])
        known = [str(k) for k in _content(parent)] if isinstance(parent, DictConfig) else []
        close = nearest(str(to[-1]), known) if to else []
        advice = f"did you mean {' or '.join(close)}?" if close else "add it, or correct the name"
        return f"${{{name}}}: there is no key {dotted(to)}; {advice}"

    def circle(self, start: Route) -> tuple[Route, ...]:
        """Return the entries on the way from one back to itself; empty where there is none."""
        texts: Mapping[Route, str] = {route: raw for route, (raw, _) in self.failed.items()}

        def follow(route: Route, way: tuple[Route, ...]) -> tuple[Route, ...]:
            for _, to in self.references(route, texts.get(route, "")):
                # Also into a section that holds where it began.
                if to == start or start[: len(to)] == to:
                    return way
                if to not in way and to in texts and (found := follow(to, (*way, to))):
                    return found
            return ()

        return follow(start, (start,))

    def is_spoilt(self, route: Route) -> bool:
        if self.node(route) is _SPOILT:
            return True
        return any(
            failed[: len(route)] == route or route[: len(failed)] == failed
            for failed in self.failed
        ) or any(one[: len(route)] == route for one in self.resolved.missing)


def _content(node: DictConfig) -> dict[Any, Any]:
    return node._content if isinstance(node._content, dict) else {}


def _items(node: ListConfig) -> list[Any]:
    return node._content if isinstance(node._content, list) else []


_SPOILT = object()
_RESOLVERS = ("oc.env", "oc.select", "oc.decode", "oc.create", "oc.deprecated", "oc.dict.keys",
              "oc.dict.values", "hydra", "now", "python_version")  # fmt: skip


def _parts(name: str) -> tuple[str | int, ...]:
    parts = (part.strip("]") for part in re.split(r"[.\[]", name))
    return tuple(int(part) if part.isdigit() else part for part in parts if part)
