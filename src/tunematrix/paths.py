"""Where files lie: the shipped configs, and the folder of the project that is worked in."""

from __future__ import annotations

import configparser
import contextlib
import errno
import fcntl
import os
import re
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tunematrix.errors import BadInput, MachineProblem

STATE = "TUNEMATRIX_STATE"
"""Variable with the folder that a run keeps everything in."""
_TOML_SINCE = 9
"""The release of pytest that has a TOML file of its own."""
_HEADER = "[tool.pytest.ini_options]"
# Files that belong to other tools as well, with pytest's section in each.
_SECTIONS = {"tox.ini": "pytest", "setup.cfg": "tool:pytest"}
# What Python, its tools and the driver itself keep beside code.
CACHES = frozenset({
    ".git", ".hg", ".tunematrix", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache",
    ".nox", ".tox", ".venv", "venv", "node_modules", ".ipynb_checkpoints", ".idea", ".vscode",
})  # fmt: skip
PACKAGE = Path(__file__).resolve().parent


def shipped_configs() -> Path:
    """Return the folder with the config groups that come with tunematrix.

    An installed wheel carries it inside the package; a checkout has it beside `src/`.
    """
    installed = PACKAGE / "configs"
    return installed if installed.is_dir() else PACKAGE.parents[1] / "configs"


def shipped_constraints() -> Path:
    """Return the folder with the environments that come with tunematrix, and their locks."""
    installed = PACKAGE / "constraints"
    return installed if installed.is_dir() else PACKAGE.parents[1] / "constraints"


def project_root(start: Path) -> Path:
    """Return the nearest folder at or above `start` with a pyproject.toml, else `start`."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / "pyproject.toml").is_file():
            return folder
    return start


def state(root: Path) -> Path:
    """Return the folder in which a project's records, runs and caches are kept.

    Runs whose records must not mix with the project's own are given another, by `STATE`.
    """
    folder = os.environ.get(STATE)
    return Path(folder) if folder else root / ".tunematrix"


def unwritable(folder: Path, error: OSError) -> MachineProblem:
    """Return what keeps a run from going on: mostly the disk, but not always."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return MachineProblem(f"{error}; let more files be open at once: ulimit -n 1024")
    if "AF_UNIX path too long" in str(error):  # Python's own check, which has no number
        place = tempfile.gettempdir()
        text = f"TMPDIR is too long a path for the sockets of processes ({len(place)} characters)"
        return MachineProblem(f"{text}; set one of at most 60: {place}")
    return MachineProblem(f"can't write to {shown(folder)}: {error}")


def made(folder: Path) -> Path:
    """Make a folder that a run is written to, and return it.

    Raises:
        MachineProblem: it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = f"can't write to {shown(folder)}: {error.strerror}"
        raise MachineProblem(f"{text}; remove what is in the way, or free space") from error
    return folder


def adhoc_specs(root: Path) -> Path:
    """Return the folder for specs of cells that were asked for on the command line."""
    return state(root) / "adhoc"


def pyproject(root: Path) -> dict[str, Any]:
    """Return what the pyproject.toml of a project says; nothing where there is none.

    Raises:
        BadInput: it can't be read.
    """
    file = root / "pyproject.toml"
    return toml(file) if file.is_file() else {}


def toml(file: Path) -> dict[str, Any]:
    """Return what a TOML file says.

    Raises:
        BadInput: it can't be read.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # an integer may be too long, too
        raise BadInput(f"{shown(file)}: can't be read: {error}; correct it") from None


def line_in(file: Path, key: str) -> str:
    """Return where a key stands in a TOML file, as messages name the place."""
    lines = file.read_text(encoding="utf-8").splitlines()
    pattern = re.compile(rf"\s*\[*\s*[\"']?{re.escape(key)}\b")
    number = next((number for number, line in enumerate(lines, 1) if pattern.match(line)), None)
    return shown(file) if number is None else f"{shown(file)}:{number}"


def tool_table(root: Path, name: str) -> dict[str, Any]:
    """Return the table [tool.NAME] of a project; nothing where there is none.

    Raises:
        BadInput: pyproject.toml can't be read, or that is no table.
    """
    table: object = pyproject(root)
    for part in ("tool", name):
        table = table.get(part, {}) if isinstance(table, dict) else table
    if not isinstance(table, dict):
        place = line_in(root / "pyproject.toml", name)
        raise BadInput(f"{place}: [tool.{name}] is no table; write its keys below such a line")
    return table


def pytest_file(root: Path) -> Path | None:
    """Return the one file of a project that pytest reads its settings in; None where there is none.

    The order is pytest's: a file of its own hides all others, even if there is nothing in it, and a
    table in pyproject.toml the sections of tox.ini and setup.cfg.
    """
    for name in _own_files():
        if (root / name).is_file():
            return root / name
    if tool_table(root, "pytest"):
        return root / "pyproject.toml"
    for name, section in _SECTIONS.items():
        if _ini(root / name).has_section(section):
            return root / name
    return None


def _own_files() -> tuple[str, ...]:
    """Return the names of files that are pytest's alone; older releases have no TOML of theirs."""
    names = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini")
    try:
        release = version("pytest")
    except PackageNotFoundError:  # beside Nox, which builds what pytest is in
        return names
    return names if int(release.partition(".")[0]) >= _TOML_SINCE else names[2:]


def pytest_settings(root: Path) -> dict[str, list[str]]:
    """Return what a project tells pytest, which checks it; of an ini file, the lines of each."""
    file = pytest_file(root)
    if file is None:
        return {}
    if file.suffix == ".toml":
        is_own = file.name != "pyproject.toml"
        table = toml(file).get("pytest", {}) if is_own else tool_table(root, "pytest")
        settings = table if is_own else table.get("ini_options", table)
        if not isinstance(settings, dict):
            key, header = ("pytest", "[pytest]") if is_own else ("ini_options", _HEADER)
            raise BadInput(f"{line_in(file, key)}: {key} is no table; write {header}")
        return {key: _folders(file, key, value) for key, value in settings.items()}
    parsed, section = _ini(file), _SECTIONS.get(file.name, "pytest")
    entries = parsed.items(section) if parsed.has_section(section) else ()
    return {key: [line for line in text.splitlines() if line.strip()] for key, text in entries}


def _folders(file: Path, key: str, value: Any) -> list[str]:
    """Return a setting of ours as pytest takes it: a list, or lines; others are pytest's affair."""
    if not key.startswith("tunematrix_"):
        return value if isinstance(value, list) else [str(value)]
    lines = value.splitlines() if isinstance(value, str) else value
    if isinstance(value, bool):
        return [str(value).lower()]
    is_list = isinstance(lines, list) and all(isinstance(one, str) for one in lines)
    if not is_list or any("\0" in line for line in lines):
        advice = f'write {key} = ["FOLDER"]'
        raise BadInput(f"{line_in(file, key)}: {key}: expected a list of folders; {advice}")
    return [line for line in lines if line.strip()]


def _ini(file: Path) -> configparser.RawConfigParser:
    """Read an ini file, as far as it can be read: pytest says itself what is wrong with it."""
    parsed = configparser.RawConfigParser(strict=False)
    with contextlib.suppress(configparser.Error, UnicodeDecodeError):
        parsed.read(file, encoding="utf-8")
    return parsed


def files_below(
    folder: Path, without: Iterable[str] = (), skips: Callable[[Path], bool] | None = None
) -> Iterator[Path]:
    """Yield the files below a folder, sorted within each; links to folders aren't followed.

    Virtualenvs are left out: what lies in them was installed, and isn't the folder's own.

    Args:
        folder: where to begin. without: patterns of names, such as `.*`, of folders to leave out.
        skips: whether to leave out a folder, for what its name doesn't say.
    """
    patterns = tuple(without)

    def is_left_out(path: Path) -> bool:
        named = any(fnmatchcase(path.name, pattern) for pattern in patterns)
        return named or (path / "pyvenv.cfg").exists() or (skips is not None and skips(path))

    for top, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_left_out(Path(top, name)))
        yield from (Path(top, name) for name in sorted(names))


def is_cache(path: Path) -> bool:
    """Whether a path, relative to its project, is of what tools keep beside code."""
    return bool(CACHES & set(path.parts)) or path.suffix == ".pyc"


def python_path() -> str:
    """Return PYTHONPATH for a new process that is to find all modules that this one finds."""
    return os.pathsep.join(path for path in sys.path if path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process holds this lock, and hold it; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the file closes, even by a killed process
        yield


def shown(path: Path) -> str:
    """Return a path as messages show it: relative to the working directory where it is below."""
    absolute = path.absolute()
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)
