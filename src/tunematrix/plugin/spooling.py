"""pytest's JUnit file for very many cells: each case goes to the disk as soon as it has ended."""

from __future__ import annotations

import secrets
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from _pytest.junitxml import LogXML, xml_key

_PIECE = 1 << 20
"""Bytes that are copied at a time."""


class Spooled:
    """A stretch of cases that are on the disk, in the place of what pytest keeps of each.

    Attributes:
        start, end: of its bytes in the spool. tag: of the element that stands for it meanwhile.
    """

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end
        self.tag = f"spooled-{secrets.token_hex(16)}"

    def to_xml(self) -> ET.Element:
        """Return what stands for it."""
        return ET.Element(self.tag)


class SpooledXml(LogXML):
    """pytest's writer of the JUnit file, which keeps the elements of no case that has ended.

    Args:
        inner: pytest's own, before it has seen anything. folder: where the spool lies, unseen.
    """

    def __init__(self, inner: LogXML, folder: Path) -> None:
        vars(self).update(vars(inner))
        self._spool = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - as long as the run
        self._size = 0

    def finalize(self, report: pytest.TestReport) -> None:
        """Write a case that has ended; where the disk is full, it stays in memory."""
        reporter = self.node_reporter(report)
        super().finalize(report)
        line = ET.tostring(reporter.to_xml(), encoding="unicode").encode()
        start = self._size
        try:
            self._spool.seek(start)
            self._spool.write(line)
            self._spool.flush()
        except OSError:
            return
        self._size = start + len(line)
        self._replace(reporter, start)

    def _replace(self, reporter: Any, start: int) -> None:
        """Put a stretch of the spool in the place of a reporter, or make that before it longer."""
        ordered: list[Any] = self.node_reporters_ordered
        place = next(n for n in reversed(range(len(ordered))) if ordered[n] is reporter)
        before = ordered[place - 1] if place else None
        if isinstance(before, Spooled) and before.end == start:
            before.end = self._size
            del ordered[place]
        else:
            ordered[place] = Spooled(start, self._size)

    def pytest_sessionfinish(self) -> None:
        """Have pytest write its file, then put the cases where they belong."""
        super().pytest_sessionfinish()
        file = Path(self.logfile)
        rest = file.read_bytes()
        with file.open("wb") as whole:
            for part in self.node_reporters_ordered:
                if isinstance(part, Spooled):
                    before, _, rest = rest.partition(f"<{part.tag} />".encode())
                    whole.write(before)
                    self._copy(part, whole)
            whole.write(rest)
        self._spool.close()

    def _copy(self, part: Spooled, whole: Any) -> None:
        self._spool.seek(part.start)
        left = part.end - part.start
        while left:
            some = self._spool.read(min(left, _PIECE))
            whole.write(some)
            left -= len(some)


def spool_junit(config: pytest.Config, folder: Path) -> None:
    """Put our writer of the JUnit file in the place of pytest's, if there is one."""
    inner = config.stash.get(xml_key, None)
    if inner is None:
        return
    config.pluginmanager.unregister(inner)
    config.stash[xml_key] = SpooledXml(inner, folder)
    config.pluginmanager.register(config.stash[xml_key])
