"""Reading of one YAML file: text → plain data in which every entry knows its line.

Stricter than YAML, because a spec that is read differently from how it looks tests something
else: no aliases (ten lines of them expand to gigabytes), no tags, no duplicate keys, no second
document, and nothing that YAML 1.1 reads otherwise than YAML 1.2 or people do: 1:30, 0120, 1_0,
off. And `3e-4` is a number, as in OmegaConf; plain PyYAML reads text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import yaml

from tunematrix.spec.problems import Problem, Route

Value: TypeAlias = "str | int | float | bool | list[Value] | dict[str, Value] | None"

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20

_NUMBER_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float")}


_READ_ALIKE = re.compile(
    r"null|~|true|false|Null|True|False|NULL|TRUE|FALSE|"
    r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+|"
    r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?|"
    r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)|"
)
"""What all versions of YAML read as the same number, or as the same word."""
DECIMALS = "the number in plain decimals"
_OCTAL = re.compile(r"0o[0-7]+")
"""A number in YAML 1.2, and text in YAML 1.1."""


class _Loader(yaml.CSafeLoader):
    """PyYAML's loader, with exponents as in YAML 1.2."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


@dataclass(frozen=True)
class Tree:
    """A YAML file as plain data.

    Attributes:
        path: the file.
        data: its mapping; empty when it couldn't be read.
        lines: line of each key and list entry, by its route from the top.
        problems: what is wrong with it as YAML.
    """

    path: Path
    data: Mapping[str, Value]
    lines: Mapping[Route, int]
    problems: tuple[Problem, ...] = ()

    def line(self, route: Route) -> int:
        """Return the line of an entry or, for one that isn't there, of what should hold it."""
        return nearest_line(self.lines, route)

    def problem(self, route: Route, text: str) -> Problem:
        """Return a problem with the entry at `route`."""
        return Problem(self.path, self.line(route), route, text)


def nearest_line(lines: Mapping[Route, int], route: Route) -> int:
    """Return the line of the deepest known entry on a route; 1 for none."""
    while route and route not in lines:
        route = route[:-1]
    return lines.get(route, 1)


def empty_entries(value: Value | Mapping[str, Value], route: Route) -> Iterator[Route]:
    """Yield the route of each entry below `value`, itself at `route`, that has no value."""
    if value is None:
        yield route
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from empty_entries(entry, (*route, key))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from empty_entries(entry, (*route, index))


def texts(value: object, route: Route = ()) -> Iterator[tuple[Route, str]]:
    """Yield every text in a tree, and where it stands."""
    if isinstance(value, str):
        yield route, value
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from texts(entry, (*route, key))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from texts(entry, (*route, index))


def read_tree(path: Path, most: int = MAX_BYTES) -> Tree:
    """Read a YAML file whose top is a mapping; what is wrong is in the result's `problems`.

    Args:
        path: of the file. most: bytes that it may have; what people write has few.
    """
    text = ""
    try:
        text = _read_text(path, most)
        if strange := list(_strange_features(path, text)):
            return Tree(path, {}, {}, tuple(strange))
        return _construct(path, text)
    except _UnreadableError as unreadable:
        return Tree(path, {}, {}, (unreadable.problem,))
    except yaml.YAMLError as error:
        return Tree(path, {}, {}, (syntax_problem(path, error, text),))


def read_value(text: str) -> Value:
    """Read one value as it would stand in a file, such as behind KEY= on a command line.

    Raises:
        ValueError: it is no YAML, or has what a file may not have.
    """
    path = Path("-")
    try:
        if strange := [*_strange_features(path, text)]:
            raise ValueError(strange[0].text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            builder = _Builder(path, loader)
            value = None if node is None else builder.value(node, ())
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ValueError(syntax_problem(path, error, text).text) from None
    if builder.problems:
        raise ValueError(builder.problems[0].text)
    return value


class _UnreadableError(Exception):
    """Carries the one problem that leaves nothing to go on with."""

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(text)
        self.problem = Problem(path, None, (), text)


def _read_text(path: Path, most: int) -> str:
    """Return the text of a regular file of bounded size (a named pipe would hang here)."""
    if path.is_dir():
        raise _UnreadableError(path, "is a folder, not a file; rename it or name the files in it")
    if path.exists() and not path.is_file():
        raise _UnreadableError(path, "is not a regular file; give a YAML file")
    try:
        with path.open("rb") as stream:
            content = stream.read(most + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise _UnreadableError(
            path, f"can't be read ({reason}); check path and permissions"
        ) from None
    if len(content) > most:
        raise _UnreadableError(path, f"is larger than {most // 1024} KiB; split it")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        text = f"is not UTF-8 (byte {error.start}); save it as UTF-8"
        raise _UnreadableError(path, text) from None


def _strange_features(path: Path, text: str) -> Iterator[Problem]:
    """Look through the parser's events, before anything is expanded or recursed into."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else None
        for what in _strange(event):
            yield Problem(path, line, (), f"{what} is not allowed; write the value itself")
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents == 2:
                yield Problem(path, line, (), "a second document begins; one spec, one file")
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:  # the parser's time grows with the square of the depth
                yield Problem(path, line, (), f"is nested over {MAX_DEPTH} deep; flatten it")
                return
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _strange(event: yaml.Event) -> Iterator[str]:
    if isinstance(event, yaml.AliasEvent):
        yield f"the alias *{event.anchor}"
    elif isinstance(event, yaml.NodeEvent) and event.anchor is not None:
        yield f"the anchor &{event.anchor}"
    if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag is not None:
        yield f"the tag {event.tag}"


def syntax_problem(path: Path, error: yaml.YAMLError, text: str = "") -> Problem:
    """Return a YAML parser's complaint, in one line.

    Args:
        path: the file that it shows. error: the parser's. text: what was read, where it is at hand:
            not each parser tells which character it stumbled over.
    """
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        line = error.problem_mark.line + 1
        if _is_of_a_tab(error, text):
            return Problem(path, line, (), "this line holds a tab; YAML is indented by spaces")
        context = f" {error.context}" if error.context else ""
        told = f"is not YAML ({error.problem}{context}); check indentation, colons and quotes"
        return Problem(path, line, (), told)
    reason = str(error).splitlines()[0]
    return Problem(path, None, (), f"is not YAML ({reason}); check for control characters")


def _is_of_a_tab(error: yaml.MarkedYAMLError, text: str) -> bool:
    problem, mark = error.problem or "", error.problem_mark
    if "a tab character" in problem or repr("\t") in problem:
        return True
    lines = text.split("\n")
    return mark is not None and "\t" in "".join(lines[mark.line : mark.line + 1])[mark.column :][:1]


def _construct(path: Path, text: str) -> Tree:
    loader = _Loader(text)
    try:
        top = loader.get_single_node()
        if top is None:
            raise _UnreadableError(path, "is empty; write it or delete it")
        if not isinstance(top, yaml.MappingNode):
            raise _UnreadableError(path, "is not a mapping; write `key: value` lines at the top")
        builder = _Builder(path, loader)
        data = builder.mapping(top, ())
        return Tree(path, data, builder.lines, tuple(builder.problems))
    finally:
        loader.dispose()


class _Builder:
    """Turns nodes into plain data, noting lines and problems on the way."""

    def __init__(self, path: Path, loader: _Loader) -> None:
        self.path = path
        self.loader = loader
        self.lines: dict[Route, int] = {}
        self.problems: list[Problem] = []

    def mapping(self, node: yaml.MappingNode, route: Route) -> dict[str, Value]:
        data: dict[str, Value] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag in _NUMBER_TAGS:
                shown = f" {key_node.value}" if isinstance(key_node, yaml.ScalarNode) else ""
                text = f"the key{shown} is not text; put it in quotes"
                self.problems.append(Problem(self.path, line, route, text))
                continue
            key = key_node.value
            if key in data:
                text = f"is given twice, first in line {self.lines[*route, key]}; remove one"
                self.problems.append(Problem(self.path, line, (*route, key), text))
                continue
            self.lines[*route, key] = line
            data[key] = self.value(value_node, (*route, key))
        return data

    def value(self, node: yaml.Node, route: Route) -> Value:
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, route)
        if isinstance(node, yaml.SequenceNode):
            for index, entry in enumerate(node.value):
                self.lines[*route, index] = entry.start_mark.line + 1
            return [self.value(entry, (*route, i)) for i, entry in enumerate(node.value)]
        return self.scalar(node, route)

    def _ambiguous(self, node: yaml.Node, route: Route, better: str) -> None:
        text = f"readers of YAML disagree what {node.value[:40]} is; write {better}, or quote it"
        self.problems.append(Problem(self.path, node.start_mark.line + 1, route, text))

    def scalar(self, node: yaml.Node, route: Route) -> Value:
        is_plain = isinstance(node, yaml.ScalarNode) and not node.style
        if node.tag not in _NUMBER_TAGS:
            if is_plain and _OCTAL.fullmatch(node.value):
                self._ambiguous(node, route, DECIMALS)
            return str(node.value)
        if is_plain and not _READ_ALIKE.fullmatch(node.value):
            is_word = node.tag.endswith(":bool")
            self._ambiguous(node, route, "true or false" if is_word else DECIMALS)
        try:
            value: str | int | float | bool | None = self.loader.construct_object(node)
        except (ValueError, OverflowError):
            line = node.start_mark.line + 1
            text = f"{node.value[:40]} can't be read as a number; shorten or quote it"
            self.problems.append(Problem(self.path, line, route, text))
            return None
        return value
