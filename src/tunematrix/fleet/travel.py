"""What travels: a cell and how to run it, as JSON; its record and its evidence, as a zip file."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tunematrix.errors import BadInput
from tunematrix.evidence.run_dir import RunDir
from tunematrix.matrix.cells import Cell
from tunematrix.results.outcome import Expected
from tunematrix.results.record import Record
from tunematrix.spec.model import Spec
from tunematrix.spec.values import Given

RECORD = "record.json"
EVIDENCE = "evidence"
LARGEST = 500_000_000
"""Bytes of evidence that travel; `output/` is left out first where there is more."""
MOST_FILES = 10_000


@dataclass(frozen=True)
class Terms:
    """How all cells of one run are to be run.

    Attributes:
        run_id: names the run. faults: entered in every cell.
        watch: whether training is watched from inside. keep_output: also of cells that pass.
        strict: whether a figure outside of its baseline fails a cell.
    """

    run_id: str
    faults: tuple[str, ...] = ()
    watch: bool = False
    keep_output: bool = False
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Errand:
    """A cell that a worker is to run.

    Attributes:
        terms: those of its run. cell: what is run.
        expected: the failures that are known of it; None where the worker's releases decide.
        alone: whether nothing may run beside it there.
        wants_evidence: whether its evidence comes back whatever its outcome is.
    """

    terms: Terms
    cell: Cell
    expected: tuple[Expected, ...] | None = None
    alone: bool = False
    wants_evidence: bool = False

    def to_text(self) -> str:
        """Return it as JSON."""
        cell = self.cell
        return json.dumps(
            {
                "terms": vars(self.terms),
                "spec": _spec_text(cell.spec),
                "cell": {
                    "base_id": cell.base_id,
                    "axes": dict(cell.axes),
                    "overrides": dict(cell.overrides),
                    "faults": cell.faults,
                    "seed": cell.seed,
                    "planted": cell.planted,
                },
                "expected": None if self.expected is None else [vars(one) for one in self.expected],
                "alone": self.alone,
                "wants_evidence": self.wants_evidence,
            }
        )

    @classmethod
    def from_text(cls, text: str) -> Errand:
        """Read it again.

        Raises:
            BadInput: it is none that this version of tunematrix has written.
        """
        try:
            data = json.loads(text)
            read = _adapter().validate_python(data["cell"] | {"expected": data["expected"]})
            return cls(
                terms=Terms(**{**data["terms"], "faults": tuple(data["terms"]["faults"])}),
                cell=read.cell(_spec(data["spec"])),
                expected=read.expected,
                alone=bool(data["alone"]),
                wants_evidence=bool(data["wants_evidence"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            message = f"a cell came from the fleet that can't be read ({error}); use one version"
            raise BadInput(f"{message} of tunematrix on all machines") from error


@dataclass(frozen=True)
class _Planned:
    """A cell without its spec."""

    base_id: str
    axes: dict[str, str]
    overrides: dict[str, Given]
    faults: tuple[str, ...]
    seed: int | None
    planted: str
    expected: tuple[Expected, ...] | None

    def cell(self, spec: Spec) -> Cell:
        fields = {name: value for name, value in vars(self).items() if name != "expected"}
        return Cell(spec=spec, **fields)


def pack(record: Record, run_dir: RunDir | None, largest: int = LARGEST) -> bytes:
    """Return a record, and what lies in a cell's folder if one is given.

    Of a folder with more than `largest` bytes the output is left out, and of one that is too large
    even then all but its logs: the record says so.
    """
    kept, note = ([], "") if run_dir is None else _chosen(run_dir.path, largest)
    if note:
        record = replace(record, reason=f"{record.reason} ({note})" if record.reason else note)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as parcel:
        parcel.writestr(RECORD, json.dumps(record.to_json(), allow_nan=False))
        for path in kept:
            assert run_dir is not None
            name = f"{EVIDENCE}/{path.relative_to(run_dir.path).as_posix()}"
            parcel.write(path, name)
    return packed.getvalue()


def unpack(data: bytes, run_dir: RunDir, largest: int = LARGEST) -> tuple[Record, bool]:
    """Write the evidence of a cell into its folder; return its record, and whether there was any.

    Raises:
        BadInput: it isn't what `pack` makes, or would write outside of the folder.
        OSError: it can't be written.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as parcel:
            record = Record.from_json(json.loads(parcel.read(RECORD)))
            members = [one for one in parcel.infolist() if one.filename != RECORD]
            _refuse_strange(members, largest)
            for member in members:
                path = run_dir.path / PurePosixPath(member.filename).relative_to(EVIDENCE)
                path.parent.mkdir(parents=True, exist_ok=True)
                with parcel.open(member) as source, path.open("xb") as target:
                    shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, KeyError, ValueError, ValidationError) as error:
        message = f"a worker sent what is no result ({type(error).__name__}: {error})"
        raise BadInput(f"{message}; use one version of tunematrix on all machines") from error
    if members:
        run_dir.output.mkdir(exist_ok=True)
    return record, bool(members)


def _refuse_strange(members: Iterable[zipfile.ZipInfo], largest: int) -> None:
    """Refuse names that lead elsewhere, and more than a worker of ours would send."""
    every = list(members)
    for member in every:
        path = PurePosixPath(member.filename)
        is_plain = path.parts[0] == EVIDENCE and len(path.parts) > 1 and not path.is_absolute()
        if not is_plain or ".." in path.parts or "\\" in member.filename or member.is_dir():
            message = f"it has a file {member.filename!r}"
            raise ValueError(message)
    if sum(member.file_size for member in every) > largest or len(every) > MOST_FILES:
        message = "it has more files than a worker sends"
        raise ValueError(message)


def _chosen(folder: Path, largest: int) -> tuple[list[Path], str]:
    """Return the files of a folder that travel, and what is to be said of the rest."""
    every = list(_files(folder))
    small = [path for path in every if path.relative_to(folder).parts[0] != "output"]
    logs = [path for path in small if path.suffix in (".json", ".jsonl", ".log")]
    for files, note in ((every, ""), (small, "its output"), (logs, "all but its logs")):
        if sum(path.stat().st_size for path in files) <= largest and len(files) <= MOST_FILES:
            return files, f"{note} was too large to be fetched from the fleet" if note else ""
    return [], "its evidence was too large to be fetched from the fleet"


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path


@lru_cache(maxsize=512)
def _text_of(spec: Spec, _: int) -> str:
    return spec.model_dump_json()


def _spec_text(spec: Spec) -> str:
    return _text_of(spec, id(spec))  # specs of one name may differ: the arms of a relation do


@lru_cache(maxsize=512)
def _spec(text: str) -> Spec:
    return Spec.model_validate_json(text)


@cache
def _adapter() -> Any:
    return TypeAdapter(_Planned)
