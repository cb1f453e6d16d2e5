"""What tells a record from others, read without the rest of its line: ten times as fast."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from tunematrix.results.record import SCHEMA_VERSION, CheckLine, Outcome
from tunematrix.results.store import parsed


class RecordHead(BaseModel):
    """The fields of a record that are few and short; the rest of its line isn't looked at."""

    model_config = ConfigDict(extra="ignore", strict=True)

    schema_version: int
    run_id: str
    environment: str
    cell_id: str
    outcome: Outcome
    arms: list[str] = []
    metrics: dict[str, Any] = {}
    durations: dict[str, Any] = {}
    versions: dict[str, str] = {}
    machine: dict[str, Any] = {}
    planned: int = 0


class _WholeLine(RecordHead):
    """All fields of a record as the present schema writes them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    spec: str
    axes: dict[str, str | list[str]]
    reason: str
    link: str
    checks: list[CheckLine]
    run_dir: str
    base_id: str
    spec_digest: str
    backend: str
    overrides: dict[str, Any]
    seed: int | None
    planted: str
    step: str | None
    faults: list[str]
    losses: list[tuple[int, float | str]] = []
    stderr: str = ""


_HEAD = TypeAdapter(RecordHead)
_WHOLE = TypeAdapter(_WholeLine)


def head_of(line: bytes, place: str) -> RecordHead:
    """Read what tells a record from others.

    Args:
        line: without its line break. place: where it stands, for messages.

    Raises:
        BadInput: it is none, or one of a newer schema.
    """
    return _read(_HEAD, line, place, oldest=1)


def checked_head_of(line: bytes, place: str) -> RecordHead:
    """Do the same for a line that is kept: the rest of it has to be a record's, too.

    Raises:
        BadInput: see `head_of`.
    """
    return _read(_WHOLE, line, place, oldest=2)


def _read(adapter: TypeAdapter[Any], line: bytes, place: str, oldest: int) -> RecordHead:
    try:
        head: RecordHead | None = adapter.validate_json(line)
    except ValidationError:
        head = None
    if head is not None and oldest <= head.schema_version <= SCHEMA_VERSION:
        return head
    # Odd ones, such as one behind a byte order mark, are told by reading all of it.
    record = parsed(line, place)
    fields = {name: getattr(record, name) for name in RecordHead.model_fields}
    return RecordHead.model_construct(**fields)
