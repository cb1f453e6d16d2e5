"""A folder → what tunematrix init changes in it."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunematrix.environments.table import ROUTE, shipped_rows
from tunematrix.errors import BadInput, did_you_mean
from tunematrix.paths import pyproject, pytest_file, pytest_settings, toml
from tunematrix.scaffold.changes import FileChange, appended, below_header, holds, read

SESSIONS = ("from tunematrix.nox import environments", "", "environments()")

NOXFILE = '''"""Tests the fine-tuning stack of this project: `nox -l` lists the environments.

    nox -s cpu -- -m smoke    build one, and run its fastest cells; what follows -- goes to pytest
"""

'''

SPEC = """\
# A spec: one claim, the cells that it must hold in, and the bounds that decide. Each YAML file in
# this folder is one. `tunematrix plan` lists all cells, `tunematrix schema` prints a JSON schema
# for your editor.
test_id: first
description: An adapter learns the stories that come with tunematrix
recipe: sft
matrix:
  method: [lora]
  quantizer: [none]
gap_closed: {min: 0.85, max: 1.0}  # the share learned of what there was to learn
timeout: 300  # seconds, on a slow machine as well
markers: [smoke]
"""

IGNORED = (".nox/", ".tunematrix/")

TABLE = f"""\
# Each environment is a session of Nox: `nox -l`. What this machine can do: `tunematrix doctor`.
[{ROUTE}]
shipped = """

SPECS_COMMENT = "# Where specs are: the suite that comes with tunematrix, and this project's own.\n"


def changes(root: Path, chosen: Sequence[str]) -> list[FileChange]:
    """Work out what a project needs; nothing is written.

    Args:
        root: the project's folder.
        chosen: which environments it asks for; all that come with tunematrix if empty.

    Raises:
        BadInput: an environment isn't known, or a file of the project can't be read.
    """
    shipped = shipped_rows()
    for name in chosen:
        if name not in shipped:
            raise BadInput(f"--environments {name}: is not one; {did_you_mean(name, shipped)}")
    specs = spec_folder(root)
    found = [_noxfile(root), _pyproject(root, chosen, list(shipped), specs)]
    if (file := pytest_file(root)) is not None and file.name != "pyproject.toml":
        found.append(_ini_file(file, root, specs))
    return [*found, _spec(root / specs), _gitignore(root)]


def spec_folder(root: Path) -> str:
    """Return where a project's own specs are, or shall be.

    A folder configs/ beside a package would stop setuptools, which finds packages by itself where
    nothing names them: it refuses to choose between two folders.
    """
    for name in pytest_settings(root).get("tunematrix_specs", ()):
        if name != "shipped":
            return name
    project = pyproject(root)
    backend = project.get("build-system", {}).get("build-backend", "setuptools")
    packaged = "build-system" in project or "project" in project
    finds = backend.startswith("setuptools") and packaged and not (root / "src").is_dir()
    told = project.get("tool", {}).get("setuptools", {})
    if finds and not told.keys() & {"packages", "py-modules"} and not (root / "configs").is_dir():
        return "tests/specs"
    return "configs/specs"


def _noxfile(root: Path) -> FileChange:
    path = root / "noxfile.py"
    text = read(path)
    if text is None:
        body = NOXFILE + "\n".join([*SESSIONS, ""])
        return FileChange(path, "wrote", "a session for each environment", body)
    if "tunematrix.nox" in text:
        return FileChange(path, "kept", "makes sessions of the environments already")
    return FileChange(path, "kept", "is yours; add these lines to it", by_hand=SESSIONS)


def _pyproject(root: Path, chosen: Sequence[str], shipped: Sequence[str], specs: str) -> FileChange:
    """Add the environments, and where specs are; each table only where there is none."""
    path = root / "pyproject.toml"
    before = read(path)
    parsed = pyproject(root)
    text, expected, about, by_hand = before or "", copy.deepcopy(parsed), [], list[str]()
    own = parsed.get("tool", {}).get("tunematrix", {}).get("environments")
    names = list(chosen or shipped)
    table = f"{TABLE}{json.dumps(names)}\n"
    if own is None:
        text = appended(text, table)
        _at(expected, *ROUTE.split("."))["shipped"] = names
        about.append(f"the environments {', '.join(names)}")
    elif chosen and own.get("shipped") != names:
        by_hand += [f"[{ROUTE}]", f"shipped = {json.dumps(names)}"]
    file = pytest_file(root)
    if file in (None, path) and "tunematrix_specs" not in pytest_settings(root):
        line = f"tunematrix_specs = {json.dumps(['shipped', specs])}"
        route = ["tool", "pytest", "ini_options"]
        if file == path and "ini_options" not in parsed["tool"]["pytest"]:
            route.pop()
        header = f"[{'.'.join(route)}]"
        placed = below_header(text, header, SPECS_COMMENT + line) if file == path else None
        text = placed or appended(text, f"{SPECS_COMMENT}{header}\n{line}\n")
        _at(expected, *route)["tunematrix_specs"] = ["shipped", specs]
        about.append("where specs are")
    if by_hand:
        text = "has environments already; to have others, change it to"
        return FileChange(path, "kept", text, by_hand=tuple(by_hand))
    if not about:
        return FileChange(path, "kept", "names environments and specs already")
    if not holds(text, expected):
        lines = (*table.splitlines(), f"tunematrix_specs = {json.dumps(['shipped', specs])}")
        return FileChange(path, "kept", "is written in a way of its own; add", by_hand=lines)
    return FileChange(path, "wrote" if before is None else "added to", "; ".join(about), text)


def _ini_file(file: Path, root: Path, specs: str) -> FileChange:
    """Say what another file of pytest's lacks: a table in pyproject.toml would hide that file."""
    if "tunematrix_specs" in pytest_settings(root):
        return FileChange(file, "kept", "names specs already")
    lines = ("tunematrix_specs =", "    shipped", f"    {specs}")
    if file.suffix == ".toml":
        headed = "pytest" in toml(file)
        lines = (*(() if headed else ("[pytest]",)), f'tunematrix_specs = ["shipped", "{specs}"]')
    return FileChange(file, "kept", "has pytest's settings; add these lines to them", by_hand=lines)


def _spec(folder: Path) -> FileChange:
    path = folder / "first.yaml"
    if folder.is_dir() and (there := sorted([*folder.glob("**/*.yaml"), *folder.glob("**/*.yml")])):
        return FileChange(there[0], "kept", "is a spec already")
    return FileChange(path, "wrote", "a spec to begin with", SPEC)


def _gitignore(root: Path) -> FileChange:
    path = root / ".gitignore"
    text = read(path)
    there = {line.strip().strip("/") for line in (text or "").splitlines()}
    lacking = [line for line in IGNORED if line.strip("/") not in there]
    if not lacking:
        return FileChange(path, "kept", "ignores .nox/ and .tunematrix/ already")
    block = "# Environments, and what runs leave behind\n" + "".join(f"{one}\n" for one in lacking)
    deed, body = ("wrote", block) if text is None else ("added to", appended(text, block))
    return FileChange(path, deed, " and ".join(lacking), body)  # type: ignore[arg-type]


def _at(tree: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Return the table at a route, made where it isn't there."""
    for key in keys:
        tree = tree.setdefault(key, {})
    return tree
