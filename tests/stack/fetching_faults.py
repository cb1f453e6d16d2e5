"""Faults of a download, planted between the process that downloads and the step that asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tunematrix.configuration import Configuration
from tunematrix.hub.receipt import RECEIPT
from tunematrix.hub.session import Session

Kept = dict[str, Any]


@contextmanager
def _sessions(change: Callable[[Kept], None], then: Callable[[Path], None]) -> Iterator[None]:
    """Change what sessions that fetch are made of, and what they have left once they end."""
    made, run = Session.__init__, Session.run

    def make(self: Any, config: Any, environment: Any, **options: Any) -> None:
        given = {"config": config, "environment": dict(environment)}
        if not options.get("dry_run"):
            change(given)
        made(self, **given, **options)
        self.fetches = not options.get("dry_run")

    def run_on(self: Any, take: Any) -> None:
        run(self, take)
        if self.fetches:
            for order in self.orders:
                then(Path(order.output_dir))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "__init__", make)
        patch.setattr(Session, "run", run_on)
        yield


def _nothing(_: object) -> None: ...


def fetches_the_newest(config: Configuration) -> Any:
    """Whatever revision is asked for."""

    def change(given: Kept) -> None:
        wanted = given["config"]
        models = tuple(one.model_copy(update={"revision": "main"}) for one in wanted.models)
        given["config"] = wanted.model_copy(update={"models": models})

    return _sessions(change, _nothing)


def takes_what_is_there(config: Configuration) -> Any:
    """As a cache does that never asks again."""

    def change(given: Kept) -> None:
        given["environment"]["HF_HUB_OFFLINE"] = "1"

    return _sessions(change, _nothing)


def changes_a_file(config: Configuration) -> Any:
    """One byte of the weights is another once all has come."""

    def then(folder: Path) -> None:
        content = bytearray((folder / "model.safetensors").read_bytes())
        content[-1] ^= 1
        (folder / "model.safetensors").write_bytes(content)

    return _sessions(_nothing, then)


def loses_a_file(config: Configuration) -> Any:
    """It is gone once all has come."""
    return _sessions(_nothing, lambda folder: (folder / "config.json").unlink())


def loses_the_receipt(config: Configuration) -> Any:
    """As if the download hadn't come to its end."""
    return _sessions(_nothing, lambda folder: (folder / RECEIPT).unlink())
