"""One YAML file as it is written: lines of its keys, its defaults list, its interpolations.

More lenient than `spec.yaml_tree`, since users' configs may have whatever Hydra and other tools
read: anchors, tags, several documents, keys that are numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import yaml

from tunematrix.spec.problems import Problem, Route
from tunematrix.spec.yaml_tree import nearest_line, syntax_problem

MAX_BYTES = 4 * 1024 * 1024
MAX_ENTRIES = 100_000
"""Entries with all aliases written out; a few lines of nested ones would fill the memory."""
TARGET = "_target_"
_HEADER = re.compile(r"#\s*@package\s+(\S+)")
_TEMPLATE = re.compile(r"\{\{|\{%")


@dataclass(frozen=True)
class DefaultsEntry:
    """One entry of a defaults list.

    Attributes:
        line: where it stands. words: `override` and `optional`, if given.
        group: as written, without a leading slash; empty for a config named by itself.
        options: those named; empty for null.
        absolute: whether it is looked for from the config folder, not from the file's own.
        package: what follows the @, or empty.
    """

    line: int
    words: frozenset[str]
    group: str
    options: tuple[str, ...]
    absolute: bool
    package: str

    def targets(self, folder: PurePosixPath) -> tuple[str, ...]:
        """Return the names of the files that it includes, for a file in this group folder."""
        base = PurePosixPath() if self.absolute else folder
        names = (option.removesuffix(".yaml") for option in self.options)
        return tuple(str(base / self.group / name) for name in names if name != "_self_")


@dataclass(frozen=True)
class Layout:
    """A YAML file as it is written.

    Attributes:
        path: the file.
        lines: line of each key and list entry, by its route from the top.
        texts: scalars with an interpolation, by route.
        defaults: its defaults list; None without one.
        top: the keys at the top. has_target: whether a `_target_` stands anywhere.
        package: what its `# @package` line says, or empty.
        problems: what keeps it from being read.
        is_template: unreadable, and a text with placeholders of another tool.
    """

    path: Path
    lines: Mapping[Route, int] = field(default_factory=dict)
    texts: Mapping[Route, str] = field(default_factory=dict)
    defaults: tuple[DefaultsEntry, ...] | None = None
    top: frozenset[str] = frozenset()
    has_target: bool = False
    package: str = ""
    problems: tuple[Problem, ...] = ()
    is_template: bool = False

    def line(self, route: Route) -> int:
        """Return the line of an entry or, for one that isn't there, of what should hold it."""
        return nearest_line(self.lines, route)

    def problem(self, route: Route, text: str) -> Problem:
        """Return a problem with the entry at `route`."""
        return Problem(self.path, self.line(route), route, text)


def read_layout(path: Path) -> Layout:
    """Read a YAML file; what is wrong with it is in the result's `problems`."""
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return _unreadable(path, None, f"can't be read ({reason}); check path and permissions")
    except UnicodeDecodeError as error:
        return _unreadable(path, None, f"is not UTF-8 (byte {error.start}); save it as UTF-8")
    if len(content) > MAX_BYTES:
        return _unreadable(path, None, f"is larger than {MAX_BYTES // 2**20} MiB; split it")
    try:
        documents = list(yaml.compose_all(text, Loader=yaml.CSafeLoader))
        return _Walk(path).read(text, documents)
    except yaml.YAMLError as error:
        problem = syntax_problem(path, error, text)
        is_template = isinstance(error, yaml.MarkedYAMLError) and bool(_TEMPLATE.search(text))
        return Layout(path, problems=(problem,), is_template=is_template)
    except RecursionError:
        return _unreadable(path, None, "is nested too deep; flatten it")


def _unreadable(path: Path, line: int | None, text: str) -> Layout:
    return Layout(path, problems=(Problem(path, line, (), text),))


class _Walk:
    """Goes through the nodes of one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Route, int] = {}
        self.texts: dict[Route, str] = {}
        self.problems: list[Problem] = []
        self.has_target = False
        self.entries = 0

    def read(self, text: str, documents: list[yaml.Node]) -> Layout:
        top = documents[0] if len(documents) == 1 else None
        defaults: tuple[DefaultsEntry, ...] | None = None
        keys: list[str] = []
        if top is not None:
            self.walk(top, ())
        if isinstance(top, yaml.MappingNode):
            keys = [str(key.value) for key, _ in top.value]
            defaults = next(
                (_entries(value) for key, value in top.value if key.value == "defaults"), None
            )
        header = _HEADER.match(text.lstrip())
        return Layout(
            self.path,
            self.lines,
            self.texts,
            defaults,
            frozenset(keys),
            self.has_target,
            header[1] if header else "",
            tuple(self.problems),
        )

    def walk(self, node: yaml.Node, route: Route) -> None:
        self.entries += 1
        if self.entries > MAX_ENTRIES or len(route) > 200:
            if not self.problems:
                text = f"has over {MAX_ENTRIES} entries with its aliases written out; split it"
                self.problems.append(Problem(self.path, node.start_mark.line + 1, (), text))
            return
        if isinstance(node, yaml.MappingNode):
            self.mapping(node, route)
        elif isinstance(node, yaml.SequenceNode):
            for index, entry in enumerate(node.value):
                self.lines[*route, index] = entry.start_mark.line + 1
                self.walk(entry, (*route, index))
        elif isinstance(node, yaml.ScalarNode) and "${" in node.value:
            self.texts[route] = node.value

    def mapping(self, node: yaml.MappingNode, route: Route) -> None:
        merged = [value for key, value in node.value if key.value == "<<"]
        for value in merged:  # first, so that the mapping's own keys win
            for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                self.walk(source, route)
        own: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                continue
            name, line = str(key.value), key.start_mark.line + 1
            if name in own:
                text = f"is given twice, first in line {self.lines[*route, name]}; remove one"
                self.problems.append(Problem(self.path, line, (*route, name), text))
                continue
            own.add(name)
            self.lines[*route, name] = line
            self.has_target = self.has_target or name == TARGET
            self.walk(value, (*route, name))


def _entries(node: yaml.Node) -> tuple[DefaultsEntry, ...] | None:
    """Return the entries of a defaults list; None where this is something else of that name."""
    if not isinstance(node, yaml.SequenceNode):
        return None
    found: list[DefaultsEntry] = []
    for child in node.value:
        line = child.start_mark.line + 1
        if isinstance(child, yaml.ScalarNode):
            found.append(_entry(line, "", (child.value,)))
        elif isinstance(child, yaml.MappingNode) and len(child.value) == 1:
            key, value = child.value[0]
            options = None if not isinstance(key, yaml.ScalarNode) else _options(value)
            if options is None:
                return None
            found.append(_entry(line, key.value, options))
        else:
            return None
    return tuple(found)


def _options(node: yaml.Node) -> tuple[str, ...] | None:
    if isinstance(node, yaml.ScalarNode):
        return () if node.tag == "tag:yaml.org,2002:null" else (str(node.value),)
    if isinstance(node, yaml.SequenceNode) and all(
        isinstance(one, yaml.ScalarNode) for one in node.value
    ):
        return tuple(str(one.value) for one in node.value)
    return None


def _entry(line: int, key: str, options: tuple[str, ...]) -> DefaultsEntry:
    *words, group = key.split(" ") if key else [""]
    if not key:  # `- name@package`
        *words, name = options[0].split(" ")
        name, _, package = name.partition("@")
        absolute = name.startswith("/")
        return DefaultsEntry(line, frozenset(words), "", (name.lstrip("/"),), absolute, package)
    group, _, package = group.partition("@")
    absolute = group.startswith("/")
    return DefaultsEntry(line, frozenset(words), group.strip("/"), options, absolute, package)
