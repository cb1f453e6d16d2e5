"""Which faults there are, and which cells and relations can see each."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tunematrix.configuration.section import Names, Section
from tunematrix.errors import BadInput, did_you_mean
from tunematrix.evidence.secrets import masked, secrets_in
from tunematrix.matrix.cells import Cell
from tunematrix.matrix.groups import Groups
from tunematrix.matrix.plan import Plan
from tunematrix.matrix.relations import Related
from tunematrix.paths import made
from tunematrix.proof.faults.listing import ALONE
from tunematrix.run.local.room import places
from tunematrix.spec.explain import explained
from tunematrix.spec.problems import refuse
from tunematrix.spec.yaml_tree import Tree, read_tree

FILE = "faults.yaml"
FOLDER = "faults"
CATALOGUE = "catalogue.json"
SCORE = "faults.json"
"""Below `.tunematrix/`: the score, and a folder with the list of what there is."""
GIGABYTES = 3.0
"""What a process that forks cells takes, with its cell."""
LISTING_SECONDS = 300
"""For importing all modules of faults, and so the libraries that they break."""
SHIPPED = "tunematrix.faults."
Unit = Cell | Related


@dataclass(frozen=True)
class Entry:
    """One fault of the catalogue.

    Attributes:
        module: its module's name, or its file; name: its own.
        fault_class: what it breaks; summary: the first line of its docstring.
        seen_by: patterns of cells and relations that can see it, if not those of its class.
        fitted: whether a check was written or mended for it; subtle: whether what it changes is
            below 2 % of what it acts on.
        origin: the distribution that adds it, with its entry point; empty for all others.
    """

    module: str
    name: str
    fault_class: str
    summary: str
    seen_by: tuple[str, ...]
    fitted: bool = False
    subtle: bool = False
    origin: str = ""

    @property
    def id(self) -> str:
        """`module.name`, the module without its packages or folders."""
        module = Path(self.module).stem if self.is_file else self.module.rpartition(".")[2]
        return f"{module}.{self.name}"

    @property
    def target(self) -> str:
        """What `--fault` takes."""
        return f"{self.module}:{self.name}"

    @property
    def is_file(self) -> bool:
        """Whether it comes from a file, and not from a package."""
        return self.module.endswith(".py")


class Views(Section):
    """Patterns of ids, the cheapest first.

    Attributes:
        classes: class of faults to the cells and relations that can see it.
        everything: where else to try.
        modules: whose faults are tried, each a Python file or a module's name; none stands for
            the shipped ones and those of installed distributions.
    """

    classes: Mapping[str, Names]
    everything: Names
    modules: Names = ()


def discover(files: Sequence[Path], out: Path, modules: Sequence[str] = ()) -> tuple[Entry, ...]:
    """Import all faults in a process of their own and list them in a file, those of `files` first.

    `modules`, if there are some, take the place of the shipped ones and of what installed
    distributions add.

    Raises:
        BadInput: a file isn't there, can't be imported, or has no fault; two faults have one id.
        MachineProblem: the list can't be written.
    """
    for file in files:
        if not file.is_file():
            what = "is a folder" if file.is_dir() else "there is no such file"
            raise BadInput(f"--module {file}: {what}; give a Python file")
        if file.suffix != ".py":
            raise BadInput(f"--module {file}: the name of a Python file ends in .py")
    made(out.parent)
    out.unlink(missing_ok=True)  # or an older list would be taken for this one
    names = [str(file.resolve()) for file in files]
    rows = _listed([ALONE, *names, *modules] if modules else names, out)
    refused = [_refusal(row) for row in rows if "error" in row]
    if refused:
        text = "\n".join(["these modules of faults can't be used:", *refused])
        raise BadInput(masked(text, secrets_in(os.environ)))
    entries = read_entries(out)
    first: dict[str, Entry] = {}
    for entry in entries:
        if (other := first.setdefault(entry.id, entry)) is not entry:
            raise BadInput(_name_taken(entry.id, other, entry))
    return entries


def _refusal(row: Mapping[str, Any]) -> str:
    text = f"{row['module']}: {row['error']}"
    return f"{text}; mend it, or uninstall {row['origin']}" if row["origin"] else text


def _name_taken(name: str, *entries: Entry) -> str:
    """Say which two faults have one name, and what to do."""
    both = " and ".join(
        f"{entry.module}, of {entry.origin}" if entry.origin else entry.module for entry in entries
    )
    plugins = [entry.origin for entry in entries if entry.origin]
    advice = f", or uninstall {plugins[0]}" if plugins else ""
    return f"two faults are called {name}, in {both}; rename a file or a fault{advice}"


def _listed(names: Sequence[str], out: Path) -> list[dict[str, Any]]:
    """Let a process import the modules and write what is in them."""
    command = [sys.executable, "-m", "tunematrix.proof.faults.listing", str(out), *names]
    modules = [name for name in names if name != ALONE]
    which = f"importing {', '.join(modules) or 'the catalogue'}"
    try:
        end = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=LISTING_SECONDS
        )
    except subprocess.TimeoutExpired:
        late = f"{which} took more than {LISTING_SECONDS} s"
        raise BadInput(f"{late}; a fault's module should define, and not do") from None
    if end.returncode != 0 or not out.is_file():
        last = masked("".join(end.stderr.strip().splitlines()[-1:]), secrets_in(os.environ))
        raise BadInput(f"{which} ended its process with exit code {end.returncode}: {last}")
    rows: list[dict[str, Any]] = json.loads(out.read_text(encoding="utf-8"))
    return rows


def read_entries(path: Path) -> tuple[Entry, ...]:
    """Read what `discover` has listed."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return tuple(Entry(**{**row, "seen_by": tuple(row["seen_by"])}) for row in rows)


def read_views(groups: Groups, catalogue: Path | None = None) -> Views:
    """Read which classes are seen where: a project's own table, or the shipped one.

    What another `catalogue` says comes before that; its modules are those of its own alone.

    Raises:
        BadInput: one is malformed; the other catalogue isn't there, or names no module.
    """
    path = next(root / FILE for root in reversed(groups.roots) if (root / FILE).is_file())
    if catalogue is None:
        return _views(read_tree(path))
    if not catalogue.is_file():
        raise BadInput(f"--catalogue {catalogue}: there is no such file; give a YAML file")
    found = _views(read_tree(catalogue), usual=_views(read_tree(path)))
    if not found.modules:
        advice = "add the Python file with the faults: `modules: [my_faults.py]`"
        raise BadInput(f"{catalogue}: it names no module of faults; {advice}")
    beside = (
        str((catalogue.parent / name).resolve()) if name.endswith(".py") else name
        for name in found.modules
    )
    return found.model_copy(update={"modules": tuple(beside)})


def _views(tree: Tree, usual: Views | None = None) -> Views:
    refuse(tree.problems)
    data = dict(tree.data)
    if usual is not None:
        data = {"everything": list(usual.everything), "classes": {}, **data}
    try:
        found = Views.model_validate(data)
    except ValidationError as error:
        refuse(explained(tree, Views, error))
        raise
    if usual is None:
        return found
    return found.model_copy(update={"classes": {**usual.classes, **found.classes}})


def units_of(entry: Entry, views: Views, plan: Plan) -> tuple[Unit, ...]:
    """Return where a fault is tried, in this order, until one notices.

    A project of its own may lack the cells that a shipped fault names, and those for everything: it
    is tried on whatever there is.

    Raises:
        BadInput: a fault of the user's names only cells and relations that there aren't.
    """
    units: dict[str, Unit] = {cell.id: cell for cell in plan.cells}
    units |= {related.id: related for related in plan.relations}
    named = entry.seen_by or views.classes.get(entry.fault_class, ())
    first = [unit for pattern in named for unit in _matching(pattern, units)]
    if entry.seen_by and not first and not entry.module.startswith(SHIPPED):
        advice = did_you_mean(named[0], units)
        raise BadInput(f"{entry.id}: no cell or relation is called {' or '.join(named)}; {advice}")
    rest = [unit for pattern in views.everything for unit in _matching(pattern, units)]
    return tuple(dict.fromkeys((*first, *rest))) or plan.cells


def cells_at_once() -> int:
    """Return how many processes that fork cells this machine has cores and memory for."""
    return places(GIGABYTES)


def _matching(pattern: str, units: Mapping[str, Unit]) -> Iterable[Unit]:
    wanted = re.compile(re.escape(pattern).replace(r"\*", r"[^-\]]*"))
    return (unit for name, unit in units.items() if wanted.fullmatch(name))
