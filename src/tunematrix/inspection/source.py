"""What the project's Python says about its configs, read without running it.

Where `@hydra.main` looks for configs, which modules register resolvers and structured configs,
and which arguments the code itself adds when it builds what a config names.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from tunematrix.paths import files_below

MARKS = (b"hydra", b"omegaconf", b"instantiate")
MAX_FILES = 5000
_SKIPPED = (".*", "node_modules", "site-packages", "__pycache__", "build", "dist")
_REGISTERS = {"register_new_resolver", "register_resolver", "ConfigStore", "add_to_hydra_store"}
_BUILDS = {"instantiate", "call"}
_MODIFIERS = {"_recursive_", "_convert_", "_partial_", "config"}


@dataclass(frozen=True)
class HydraMain:
    """One function under `@hydra.main`.

    Attributes:
        file: where it stands. line: of the decorator. function: its name.
        folder: the config folder; None where the decorator names none, or another package's.
        config: name of its primary config; None where it isn't a plain text.
    """

    file: Path
    line: int
    function: str
    folder: Path | None
    config: str | None


@dataclass
class ProjectSource:
    """What the project's Python says.

    Attributes:
        mains: the functions under `@hydra.main`. folders: config folders named otherwise.
        registering: files that register resolvers or structured configs.
        supplied: names of arguments that the code adds when it builds something.
        builds: whether any code builds what configs name.
        supplies_others: whether some call adds arguments whose names can't be read.
    """

    mains: list[HydraMain] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    registering: list[Path] = field(default_factory=list)
    supplied: set[str] = field(default_factory=set)
    builds: bool = False
    supplies_others: bool = False

    def may_supply(self, argument: str) -> bool:
        """Whether code may give an argument that a config doesn't; yes where nothing is known."""
        return not self.builds or self.supplies_others or argument in self.supplied


def python_files(root: Path) -> Iterator[Path]:
    """Return the Python files of a project, without those of virtualenvs and build outputs."""
    files = (file for file in files_below(root, _SKIPPED) if file.suffix == ".py")
    return islice(files, MAX_FILES)


def read_source(root: Path) -> ProjectSource:
    """Read all Python of a project that has to do with configs; unreadable files are left out."""
    source = ProjectSource()
    for file in python_files(root):
        try:
            content = file.read_bytes()
            if not any(mark in content for mark in MARKS):
                continue
            tree = ast.parse(content)
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue  # whoever imports it gets a clear error
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                source.mains += _mains(node, file)
            elif isinstance(node, ast.Call):
                _read_call(node, file, source)
    return source


def _mains(node: ast.FunctionDef, file: Path) -> Iterator[HydraMain]:
    for decorator in node.decorator_list:
        if not isinstance(decorator, ast.Call) or not _is_hydra_main(decorator.func):
            continue
        named = {word.arg: word.value for word in decorator.keywords}
        given = [*decorator.args, None, None][:2]
        path = _text(named.get("config_path", given[0]))
        config = _text(named.get("config_name", given[1]))
        folder = None if path is None or "://" in path else (file.parent / path).resolve()
        yield HydraMain(file, decorator.lineno, node.name, folder, config)


def _is_hydra_main(function: ast.expr) -> bool:
    if isinstance(function, ast.Attribute):
        return function.attr == "main" and _name(function.value) == "hydra"
    return _name(function) == "hydra_main"


def _read_call(node: ast.Call, file: Path, source: ProjectSource) -> None:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else _name(node.func)
    if name in _REGISTERS or _owner(node.func) in _REGISTERS:
        if file not in source.registering:
            source.registering.append(file)
    elif name in ("initialize", "initialize_config_dir"):
        named = {word.arg: word.value for word in node.keywords}
        path = _text(named.get("config_path") or named.get("config_dir") or _first(node))
        if path is not None and "://" not in path:
            source.folders.append((file.parent / path).resolve())
    elif name in _BUILDS and (name == "instantiate" or _owner(node.func) in ("hydra", "utils")):
        _read_building(node, source)


def _read_building(node: ast.Call, source: ProjectSource) -> None:
    source.builds = True
    for word in node.keywords:
        if word.arg is None:
            source.supplies_others = True
        elif word.arg == "_recursive_":
            # Then the object itself builds what is below it, with arguments of its own.
            source.supplies_others |= getattr(word.value, "value", False) is not True
        elif word.arg not in _MODIFIERS:
            source.supplied.add(word.arg)
    if len(node.args) > 1 or any(isinstance(one, ast.Starred) for one in node.args):
        source.supplies_others = True


def _first(node: ast.Call) -> ast.expr | None:
    return node.args[0] if node.args else None


def _owner(function: ast.expr) -> str:
    if not isinstance(function, ast.Attribute):
        return ""
    value = function.value
    return value.attr if isinstance(value, ast.Attribute) else _name(value)


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _text(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def import_name(file: Path, root: Path) -> tuple[Path, str]:
    """Return the folder that must be on `sys.path` to import a file, and its dotted name there."""
    for folder in (root / "src", root):
        if file.is_relative_to(folder):
            parts = file.relative_to(folder).with_suffix("").parts
            is_package = (folder / parts[0] / "__init__.py").is_file() or folder.name == "src"
            if len(parts) == 1 or is_package:
                return folder, ".".join(parts).removesuffix(".__init__")
    top = file.parent
    while (top / "__init__.py").is_file():
        top = top.parent
    return top, ".".join(file.relative_to(top).with_suffix("").parts).removesuffix(".__init__")
