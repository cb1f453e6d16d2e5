"""Whether a fault changed anything: what a cell measured and saved, as one digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tunematrix.evidence.run_dir import RunDir

# What differs between honest runs of the same cell: who ran it, and how long it took.
_VARYING_KINDS = {"Started", "Determinants", "Phase", "Throughput"}
_VARYING_FIELDS = {"StepDone": "seconds"}
_PEAKS = {"allocator_peak", "process_peak"}
_SAVED = (".safetensors", ".json", ".jinja")
_WITH_TIMES = {"trainer_state.json"}
PEAK_STEP = 20_000_000
"""Bytes; honest peaks of one cell differ by less."""


def digest(run_dir: RunDir) -> str:
    """Return a digest of all that honest runs repeat to the bit; peaks are left to `peaks`."""
    found = hashlib.sha256()
    for line in _lines(run_dir):
        found.update(line.encode())
    for path in (run_dir.tensors, *_saved(run_dir.output)):
        if path.is_file():
            found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def peaks(run_dir: RunDir) -> dict[str, int]:
    """Return a cell's peaks of memory in bytes, by measure."""
    lines = run_dir.events.read_text(encoding="utf-8", errors="replace").splitlines()
    memory = (event for event in map(_event, lines) if event.get("kind") == "Memory")
    return {event["measure"]: event["bytes"] for event in memory if event["measure"] in _PEAKS}


def differ(one: RunDir, other: RunDir) -> bool:
    """Whether two runs of the same cell left different evidence."""
    if not (one.events.exists() and other.events.exists()):
        return one.events.exists() != other.events.exists()
    before, after = peaks(one), peaks(other)
    grown = any(abs(after.get(name, 0) - size) > PEAK_STEP for name, size in before.items())
    return grown or digest(one) != digest(other)


def _lines(run_dir: RunDir) -> Iterator[str]:
    files = (run_dir.events, *sorted(run_dir.path.glob("rank-*/events.jsonl")))
    for path in files if run_dir.events.exists() else ():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            event = _event(line)
            kind = event.get("kind", "")
            is_peak = kind == "Memory" and event["measure"] in _PEAKS
            if field := _VARYING_FIELDS.get(kind):
                yield json.dumps({**event, field: None})
            elif kind not in _VARYING_KINDS and not is_peak:
                yield line


def _event(line: str) -> dict[str, Any]:
    """Read a line; one that was torn, or that a fault has written, has no kind."""
    with suppress(json.JSONDecodeError):
        found = json.loads(line)
        if isinstance(found, dict):
            return found
    return {}


def _saved(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.suffix in _SAVED)
    return sorted(path for path in found if path.name not in _WITH_TIMES)
