"""TensorBoard's event files: records of bytes, each with its length and two checksums.

The form of a record and the fields of an event have been fixed since 2015, and only five fields
matter here, so they are read by hand: the library that reads them, tensorboard, brings gRPC and a
web server, and trainers that write such files (with tensorboardX) don't bring it.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from functools import cache

from tunematrix.evidence.events import LoggedStep
from tunematrix.evidence.files import open_regular
from tunematrix.evidence.readers.content import LogContent, LogFile
from tunematrix.evidence.readers.steps import StepList
from tunematrix.evidence.readers.values import Names, number, recognise

LARGEST_RECORD = 64 * 1024
"""Bytes; longer records are pictures and histograms, and are passed over."""

Scalar = tuple[int, str, float]
"""Step, tag, value."""


def event_file(log: LogFile) -> LogContent | None:
    """Read the scalars of a TensorBoard event file; the first record says that it is one."""
    if b"brain.Event:" not in log.head[:64]:
        return None
    scalars, whole = scalars_of(log)
    names = recognise({tag: None for _, tag, _ in scalars})
    loss = names.losses[0] if names.losses else ""
    by_step: dict[int, dict[str, float]] = defaultdict(dict)
    for step, tag, value in scalars:
        by_step[step][tag] = value
    steps = StepList()
    for step in sorted(by_step):
        steps.add(_step(step, by_step[step], names, loss))
    return LogContent(steps.steps, cut_off=not whole)


def _step(step: int, values: dict[str, float], names: Names, loss: str) -> LoggedStep:
    norm = next((values[name] for name in names.norms if name in values), None)
    rate = next((values[name] for name in names.rates if name in values), None)
    return LoggedStep(step, number(values.get(loss)), norm, rate)


def scalars_of(log: LogFile) -> tuple[list[Scalar], bool]:
    """Return the scalars up to the first torn or damaged record, and whether there was none."""
    scalars: list[Scalar] = []
    with open_regular(log.path) as file:
        while header := file.read(12):
            if not _intact(header, 8):
                return scalars, False
            (length,) = struct.unpack("<Q", header[:8])
            if length > LARGEST_RECORD:
                file.seek(length + 4, 1)
                continue
            record = file.read(length + 4)
            if not _intact(record, length):
                return scalars, False
            scalars += _event_scalars(record[:length])
    return scalars, True


def _intact(content: bytes, length: int) -> bool:
    """Whether so many bytes are there and have the checksum that follows them."""
    if len(content) != length + 4:
        return False
    (stored,) = struct.unpack("<I", content[length:])
    return bool(stored == masked_checksum(content[:length]))


@cache
def _table() -> tuple[int, ...]:
    def entry(value: int) -> int:
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        return value

    return tuple(entry(value) for value in range(256))


def masked_checksum(content: bytes) -> int:
    """Return the CRC-32C of a record as TensorFlow stores it, rotated and shifted."""
    table, checksum = _table(), 0xFFFFFFFF
    for byte in content:
        checksum = table[(checksum ^ byte) & 0xFF] ^ (checksum >> 8)
    checksum ^= 0xFFFFFFFF
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _event_scalars(event: bytes) -> Iterator[Scalar]:
    """Yield the scalars of one event: field 2 is its step, field 5 its summary."""
    fields = dict(_fields(event))
    step, summary = fields.get(2, 0), fields.get(5, b"")
    if not isinstance(step, int) or not isinstance(summary, bytes):
        return
    for field, value in _fields(summary):
        if field == 1 and isinstance(value, bytes):
            parts = dict(_fields(value))
            tag, scalar = parts.get(1), _scalar(parts)
            if isinstance(tag, bytes) and scalar is not None:
                yield step, tag.decode("utf-8", errors="replace"), scalar


def _scalar(parts: dict[int, int | bytes]) -> float | None:
    """Return a value's number: field 2, or the only float of the tensor in field 8."""
    plain, tensor = parts.get(2), parts.get(8)
    if isinstance(plain, bytes) and len(plain) == 4:
        return float(struct.unpack("<f", plain)[0])
    if isinstance(tensor, bytes):
        inside = dict(_fields(tensor))
        for field in (5, 4):  # float_val, or the bytes of a tensor without a shape
            content = inside.get(field)
            if inside.get(1) == 1 and isinstance(content, bytes) and len(content) == 4:
                return float(struct.unpack("<f", content)[0])
    return None


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a message in Protocol Buffers' wire format, numbers or bytes.

    Raises:
        ValueError: the bytes are no such message.
    """
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        kind = key & 7
        if kind == 0:
            value, position = _varint(message, position)
            yield key >> 3, value
            continue
        size, position = _size(kind, message, position)
        yield key >> 3, message[position : position + size]
        position += size


def _size(kind: int, message: bytes, position: int) -> tuple[int, int]:
    if kind == 2:
        return _varint(message, position)
    if kind in (1, 5):
        return {1: 8, 5: 4}[kind], position
    raise ValueError(f"a field of the unknown kind {kind}")


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(message):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("a number without an end")
