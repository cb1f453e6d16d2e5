"""What several verbs read: records, of a project or of files, and the project's config folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunematrix.errors import BadInput, NothingTested
from tunematrix.paths import shipped_configs
from tunematrix.project import Project, read_project
from tunematrix.results.record import Record
from tunematrix.results.store import Store, once


def newest(environment: str | None) -> list[Record]:
    """Read the records of an environment's newest run.

    Raises:
        NothingTested: there is none.
    """
    project = read_project(Path.cwd(), environment)
    path = project.folder / "results.jsonl"
    records = list(Store(path).newest())
    if not records:
        raise NothingTested(f"{path} has no record yet; run nox -s {project.environment.name}")
    return records


def in_files(files: Sequence[Path]) -> list[Record]:
    """Read all that some files hold; what stands in several of them, once.

    Raises:
        BadInput: one of them isn't there, or holds no records.
        NothingTested: there is nothing in them.
    """
    return list(once(Store(file).read() for file in present(files)))


def present(files: Sequence[Path]) -> Sequence[Path]:
    """Return some files of records.

    Raises:
        BadInput: one of them isn't there.
        NothingTested: there is no record in any of them.
    """
    if absent := [str(file) for file in files if not file.is_file()]:
        message = f"there is no file {', '.join(absent)}; give files of records"
        raise BadInput(message)
    if all(next(Store(file).lines(), None) is None for file in files):
        message = f"there is no record in {', '.join(map(str, files))}; a file of records has a "
        message += "line for each cell that has ended, and is empty before the first has"
        raise NothingTested(message)
    return files


def own_configs(project: Project) -> Path:
    """Return the config folder of the project's own that what is measured is written to.

    Raises:
        BadInput: it has none.
    """
    folder, root = project.groups.roots[-1].resolve(), project.root.resolve()
    is_shipped = folder == shipped_configs().resolve() != root / "configs"
    if is_shipped or not folder.is_relative_to(root):
        message = "the project has no config folder of its own; make one, and name it in pytest's "
        message += 'settings, beside tunematrix_specs: tunematrix_configs = ["configs"]'
        raise BadInput(message)
    return folder
