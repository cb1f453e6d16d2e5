"""Records → TensorBoard's event files: a run for each cell, with its loss curve and figures.

Written by hand, as such files are read by hand (`evidence/readers/event_files.py` says why): a
record of bytes is framed by its length and two checksums, and an event has few fields.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tunematrix.evidence.readers.event_files import masked_checksum
from tunematrix.evidence.run_dir import folder_name
from tunematrix.report.rows import moment_of
from tunematrix.report.writing import write_whole
from tunematrix.results.record import Record, shown_option

FILE = "events.out.tfevents.0.tunematrix"
"""The same name each time, so that a file written again takes the place of the old one."""
VERSION = b"brain.Event:2"
FLOOR = "entropy_floor"
_NUMBER, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


def write_runs(records: Sequence[Record], folder: Path) -> int:
    """Write the cells that have a figure, each into a folder of its own; return how many.

    Raises:
        MachineProblem: there is no room, or no right to write.
    """
    written = 0
    for record in records:
        if record.losses or record.metrics:
            run = folder_name(f"{record.environment}-{record.run_id}")
            place = folder / run / folder_name(record.cell_id)
            write_whole(place / FILE, b"".join(map(_framed, _events(record))))
            written += 1
    return written


def _events(record: Record) -> Iterator[bytes]:
    """Yield the events of a cell: its axes as hyperparameters, its losses, its figures."""
    time = _seconds(record)
    yield _event(time, 0, _field(3, VERSION))
    yield _event(time, 0, _field(5, _field(1, _hyperparameters(record, time))))
    for step, loss in record.losses:
        yield _scalars(time, step, {"loss": loss})
    last = record.losses[-1][0] if record.losses else 0
    if record.losses and FLOOR in record.metrics:
        # At both ends of the curve, so that it is a line below it.
        yield _scalars(time, record.losses[0][0], {FLOOR: record.metrics[FLOOR]})
        yield _scalars(time, last, {FLOOR: record.metrics[FLOOR]})
    yield _scalars(time, last, {f"metrics/{name}": one for name, one in record.metrics.items()})


def _event(time: float, step: int, what: bytes) -> bytes:
    return _key(1, _EIGHT_BYTES) + struct.pack("<d", time) + _key(2, _NUMBER) + _varint(step) + what


def _scalars(time: float, step: int, values: Mapping[str, float]) -> bytes:
    """Return an event with the values of a step; what isn't finite is told as it is."""
    parts = (
        _field(1, _field(1, _text(tag)) + _key(2, _FOUR_BYTES) + struct.pack("<f", _single(value)))
        for tag, value in values.items()
    )
    return _event(time, step, _field(5, b"".join(parts)))


def _hyperparameters(record: Record, time: float) -> bytes:
    """Return the value by which TensorBoard's page HPARAMS knows the axes of a cell."""
    axes = {axis: shown_option(option) for axis, option in record.axes.items()}
    words = {**axes, "outcome": record.outcome}
    pairs = (
        _field(1, _field(1, _text(name)) + _field(2, _field(3, _text(word))))
        for name, word in words.items()
    )
    begun = b"".join(pairs) + _key(5, _EIGHT_BYTES) + struct.pack("<d", time)
    plugin = _field(1, b"hparams") + _field(2, _field(3, begun))
    return _field(1, b"_hparams_/session_start_info") + _field(9, _field(1, plugin))


def _framed(event: bytes) -> bytes:
    length = struct.pack("<Q", len(event))
    checksums = (struct.pack("<I", masked_checksum(part)) for part in (length, event))
    return length + next(checksums) + event + next(checksums)


def _field(number: int, content: bytes) -> bytes:
    return _key(number, _BYTES) + _varint(len(content)) + content


def _key(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _varint(value: int) -> bytes:
    """Return a whole number, not negative, as Protocol Buffers write it."""
    rest = max(0, value)
    parts = bytearray()
    while rest > 0x7F:
        parts.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*parts, rest])


def _text(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _single(value: float) -> float:
    """Return a figure as a float of 32 bits can hold it."""
    return value if abs(value) < 3.4e38 or math.isnan(value) else math.copysign(math.inf, value)


def _seconds(record: Record) -> float:
    """Return when the run began, in seconds since 1970, as far as its id tells."""
    try:
        return datetime.fromisoformat(moment_of(record.run_id)).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0
