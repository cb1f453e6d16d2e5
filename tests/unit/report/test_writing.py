"""Files of views: whole, whoever else writes them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tunematrix.errors import MachineProblem
from tunematrix.report.writing import write_whole


def write_often(path: Path, page: bytes) -> None:
    """Write a file again and again."""
    for _ in range(20):
        write_whole(path, page)


def test_two_at_once(tmp_path: Path) -> None:
    """Whenever it is read, a file is the one or the other, and no draft stays."""
    path = tmp_path / "new" / "page.md"
    pages = [bytes([letter]) * 200_000 for letter in b"ab"]
    write_whole(path, pages[0])
    threads = [threading.Thread(target=write_often, args=(path, page)) for page in pages]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert path.read_bytes() in pages
    assert [one.name for one in path.parent.iterdir()] == ["page.md"]


def test_a_link_and_a_pipe(tmp_path: Path) -> None:
    """A link stays one, and what is no file is written to."""
    (tmp_path / "link").symlink_to(tmp_path / "page")
    write_whole(tmp_path / "link", b"x")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "page").read_bytes() == b"x"
    os.mkfifo(tmp_path / "pipe")
    reader = threading.Thread(target=lambda: taken.append((tmp_path / "pipe").read_bytes()))
    taken: list[bytes] = []
    reader.start()
    write_whole(tmp_path / "pipe", b"y")
    reader.join()
    assert taken == [b"y"]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    """A folder is no page."""
    with pytest.raises(MachineProblem, match=r"can't write .*; give a place that can be written"):
        write_whole(tmp_path, b"")
