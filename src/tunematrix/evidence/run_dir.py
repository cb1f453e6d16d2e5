"""The folder of one cell: the driver writes `cell.json` into it, the worker everything else."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from tunematrix.configuration import Configuration
from tunematrix.errors import BadInput
from tunematrix.evidence.files import read_bounded

_LONGEST_SLUG = 100
_LARGEST_CELL = 10_000_000


@dataclass(frozen=True)
class CellFile:
    """What a worker needs to run one cell: the content of `cell.json`.

    Attributes:
        cell_id: id of the cell, such as `lora[cpu-hqq-int4]`.
        config: what it is run with; its cache lies relative to the folder of the cell.
        faults: `module:function` names of the faults to enter before the recipe.
    """

    cell_id: str
    config: Configuration
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunDir:
    """`.tunematrix/<environment>/runs/<run>/<cell>/`.

    Attributes:
        path: the folder itself.
    """

    path: Path

    @classmethod
    def create(cls, run: Path, cell_id: str) -> RunDir:
        """Makes the folder of a cell, and `output/` in it, below the folder of a run.

        Raises:
            FileExistsError: the run has a folder for this cell already.
        """
        run_dir = cls(run.resolve() / folder_name(cell_id))
        run_dir.path.mkdir(parents=True)
        run_dir.output.mkdir()
        return run_dir

    @property
    def cell(self) -> Path:
        """What to run."""
        return self.path / "cell.json"

    @property
    def events(self) -> Path:
        """What the worker wrote down, one JSON line per event."""
        return self.path / "events.jsonl"

    @property
    def tensors(self) -> Path:
        """What the worker kept of gradients, parameters and logits, where it was told to."""
        return self.path / "tensors.safetensors"

    @property
    def stdout(self) -> Path:
        """What the cell's processes printed."""
        return self.path / "stdout.log"

    @property
    def stderr(self) -> Path:
        """What the cell's processes printed as errors, tracebacks of ended cells included."""
        return self.path / "stderr.log"

    @property
    def probe(self) -> Path:
        """What the probe wrote in each process that it watched; not there where none was asked."""
        return self.path / "probe"

    @property
    def output(self) -> Path:
        """Where the recipe saves."""
        return self.path / "output"

    def rank(self, number: int) -> RunDir:
        """What one of several processes writes; the first writes its events to the cell's own."""
        return RunDir(self.path / f"rank-{number}")

    def write_cell(self, cell: CellFile) -> None:
        """Writes `cell.json`, all or nothing."""
        draft = self.cell.with_suffix(".draft")
        content = {"cell_id": cell.cell_id, "faults": cell.faults, "config": cell.config.to_json()}
        draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        draft.replace(self.cell)

    def read_cell(self) -> CellFile:
        """Reads `cell.json`.

        Raises:
            BadInput: the file is missing, no JSON, or lacks a field.
        """
        try:
            fields = json.loads(read_bounded(self.cell, _LARGEST_CELL))
            config = Configuration.model_validate_json(json.dumps(fields.pop("config")))
            return CellFile(config=config, **{**fields, "faults": tuple(fields["faults"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise BadInput(
                f"{self.cell}: can't be read as a cell ({type(error).__name__}: {error}). "
                "Each run writes this file itself; run the cell again instead of editing it."
            ) from error


def folder_name(cell_id: str) -> str:
    """A name that is legal and short on every file system, another one for every cell.

    The digest keeps apart ids that differ only in case or in the characters replaced.
    """
    slug = re.sub(r"[^A-Za-z0-9._]+", "-", cell_id).strip("-.")[:_LONGEST_SLUG]
    return f"{slug}-{hashlib.sha256(cell_id.encode('utf-8', 'backslashreplace')).hexdigest()[:12]}"
