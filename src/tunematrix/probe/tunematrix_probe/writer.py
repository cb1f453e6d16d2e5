"""The file of a process: one line for each record, written at once, so that kill -9 loses none.

Each process has its own, named after it: a launcher such as `trl sft` imports torch as well as the
process that it starts, and ends after it, so that in a shared file it would have the last word.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any

from .records import ProbeStarted, SwitchedOff

LIBRARIES = (
    "torch", "transformers", "peft", "trl", "accelerate", "lightning", "pytorch-lightning",
    "deepspeed", "bitsandbytes", "datasets", "torchtune", "litgpt", "numpy",
)  # fmt: skip
"""Whose versions are told, where they are installed."""


class Writer:
    """Writes records of this process; after a fork, the child has a file of its own.

    Attributes:
        folder: where the files are; broken: whether the file can't be written any more.
        loader_worker: number of the data loader's worker that this process has turned out to be.
    """

    def __init__(self, folder: str) -> None:
        self.folder = os.path.join(folder, "probe")
        self.broken = False
        self.loader_worker: int | None = None
        self._pid = 0
        self._file = -1

    def begin(self) -> None:
        """Write `ProbeStarted`, so that it is seen that the process has PyTorch."""
        self._write([])

    def write(self, record: Any) -> None:
        """Append one record; the first of a process is preceded by `ProbeStarted`."""
        self._write([record])

    def _write(self, records: list[Any]) -> None:
        if self.broken:
            return
        try:
            if self._pid != os.getpid():
                self._open()
            for record in records:
                self._append(record)
        except OSError as error:
            self.broken = True
            sys.stderr.write(f"tunematrix: this process isn't watched any more: {error}\n")

    def _open(self) -> None:
        began = time.time()
        os.makedirs(self.folder, exist_ok=True)
        self._pid = os.getpid()
        path = os.path.join(self.folder, f"{self._pid}-{int(began * 1000)}.jsonl")
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._append(_started(began, self.loader_worker))

    def _append(self, record: Any) -> None:
        line = json.dumps({"kind": type(record).__name__, **_plain(record)}) + "\n"
        data = line.encode()
        if os.write(self._file, data) != len(data):
            raise OSError("a line was cut off; is the disk full?")


def _plain(record: Any) -> dict[str, Any]:
    # dataclasses.asdict copies everything on its way.
    return {f.name: _value(getattr(record, f.name)) for f in fields(record)}


def _value(value: Any) -> Any:
    if is_dataclass(value):
        return _plain(value)
    if isinstance(value, (tuple, list)):
        return [_value(entry) for entry in value]
    return value


def _started(began: float, loader_worker: int | None) -> ProbeStarted:
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    return ProbeStarted(
        pid=os.getpid(),
        parent=os.getppid(),
        began=began,
        program=f"-m {spec.name}" if spec is not None else (sys.argv or [""])[0],
        python=sys.version.split()[0],
        versions=_versions(),
        rank=_number("RANK"),
        world_size=_number("WORLD_SIZE") or 1,
        loader_worker=loader_worker,
    )


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError, OSError):
            found[name] = str(version(name))
    return found


def _number(variable: str) -> int | None:
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() else None


class Off:
    """Which parts have been switched off, and why: told once each.

    Attributes:
        parts: their names.
    """

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.parts: set[str] = set()
        self._told: set[tuple[str, str]] = set()

    def switch(self, part: str, reason: str) -> None:
        """Look at a part no more."""
        if part not in self.parts:
            self.parts.add(part)
            self.writer.write(SwitchedOff(part, reason))

    def pass_over(self, part: str, reason: str, step: int | None) -> None:
        """Leave a part out in one step; the same reason is told once."""
        if (part, reason) not in self._told:
            self._told.add((part, reason))
            self.writer.write(SwitchedOff(part, reason, step=step, once=True))

    def fell_over(self, part: str, error: BaseException, step: int | None) -> None:
        """Switch off a part of the probe that has raised an error."""
        if part not in self.parts:
            self.parts.add(part)
            reason = f"the probe fell over: {type(error).__name__}: {str(error)[:300]}"
            self.writer.write(SwitchedOff(part, reason, _place(error), step, is_error=True))


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
