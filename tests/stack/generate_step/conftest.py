"""The step `generate` on real models: one world for the tests of a file."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from tests.stack.generate_step.world import ADAPTER, GPT2_ADAPTER, World, save_adapter
from tests.tiny import tiny_configuration

from tunematrix.stack.toyworld import models


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Leave out threads, which wait for each other longer than models so small compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return the world with one adapter for each architecture that is sabotaged."""
    root = tmp_path_factory.mktemp("generate")
    config = tiny_configuration("nobody.asks").model_copy(update={"cache_dir": str(root / "cache")})
    folders = {ADAPTER: root / ADAPTER, GPT2_ADAPTER: root / GPT2_ADAPTER}
    save_adapter(models.BASE, folders[ADAPTER])
    gpt2 = models.resolve("toyworld://gpt2", root / "cache")
    save_adapter(gpt2, folders[GPT2_ADAPTER], ["c_attn", "c_fc"])
    return World(config, folders, itertools.count(), root)
