"""Workers of data loaders: whether each has random numbers of its own."""

from __future__ import annotations

import hashlib
import random
import sys
from typing import Any

import torch

from .patches import Patches
from .records import SeenLoaderWorker
from .state import ProcessState


class Workers:
    """Looks at the first fetch in each worker's process."""

    def __init__(self, state: ProcessState) -> None:
        self.state = state
        self._before: dict[str, str] | None = None
        self._done = False

    def install(self, patches: Patches) -> None:
        """Look at what fetches rows, whichever process that will be in."""
        from torch.utils.data._utils import fetch

        for name in ("_MapDatasetFetcher", "_IterableDatasetFetcher"):
            patches.around("workers", getattr(fetch, name), "fetch", self._begin, self._end)

    def _begin(self, *args: Any, **kwargs: Any) -> None:
        if not self._done:
            self.state.safely("workers", self._look)

    def _look(self) -> None:
        # In the process that trains, this says that there is no worker, and will at each fetch.
        self._before = _states() if torch.utils.data.get_worker_info() is not None else None

    def _end(self, result: Any, *args: Any, **kwargs: Any) -> None:
        if self._before is not None and not self._done:
            self.state.safely("workers", self._write, self._before)

    def _write(self, before: dict[str, str]) -> None:
        self._done = True
        info: Any = torch.utils.data.get_worker_info()
        after = _states()
        self.state.writer.loader_worker = info.id
        self.state.writer.write(
            SeenLoaderWorker(
                worker=info.id,
                workers=info.num_workers,
                loader=info.seed - info.id,
                states=before,
                used=tuple(name for name in before if before[name] != after[name]),
            )
        )


def _states() -> dict[str, str]:
    found = {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "random": repr(random.getstate()).encode(),
    }
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        found["numpy"] = repr(numpy.random.get_state(legacy=False)).encode()
    return {
        name: hashlib.blake2b(state, digest_size=8).hexdigest() for name, state in found.items()
    }
