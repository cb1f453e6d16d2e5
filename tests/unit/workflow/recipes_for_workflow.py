"""Tiny recipes and preparations of the cells that go the way of all cells in these tests."""

from __future__ import annotations

import time
from pathlib import Path

from tunematrix.configuration import Configuration
from tunematrix.errors import Obstacle, Unavailable
from tunematrix.evidence.log import EventLog


def save(config: Configuration, events: EventLog, output_dir: Path) -> None:
    """Reads what was prepared, and saves it."""
    prepared = (Path(config.cache_dir) / "prepared").read_text()
    (output_dir / "saved").write_text(prepared)


def refuse(config: Configuration, events: EventLog, output_dir: Path) -> None:
    """Finds no device."""
    claim("")


def get_ready(cache_dir: str) -> None:
    """Leaves something in the cache."""
    Path(cache_dir).mkdir(exist_ok=True)
    (Path(cache_dir) / "prepared").write_text("ready")


def claim(cache_dir: str) -> None:
    """Finds no device."""
    raise Unavailable(Obstacle("a GPU", "there is none", "buy one"))


def break_down(cache_dir: str) -> None:
    """Fails, in words that a refusal might use."""
    raise RuntimeError("Unusable: nothing to do: nothing")


def compile_for_ever(cache_dir: str) -> None:
    """Says that it has begun, and never ends."""
    Path(cache_dir).mkdir(parents=True, exist_ok=True)
    (Path(cache_dir) / "begun").touch()
    time.sleep(600)
