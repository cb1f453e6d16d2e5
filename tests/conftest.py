"""What all tests take for granted of the process that they run in."""

from __future__ import annotations

import os
import random
import signal
import sys

import pytest

EACH_TIME = "each_time"
"""A marker: how many of a test's variants run each time; the others are nightly."""

SEED = int(os.environ.get("TUNEMATRIX_SEED", "0"))
"""That each test begins with, so that one that fails can be run again."""

# A shell's background jobs ignore Ctrl-C, and so would all that is started here to receive it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave all but some variants of a test for the night, the first and others spread evenly."""
    variants: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker(EACH_TIME) and not item.get_closest_marker("nightly"):
            variants.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for alike in variants.values():
        mark = alike[0].get_closest_marker(EACH_TIME)
        assert mark is not None
        count = mark.args[0]
        kept = {index * len(alike) // count for index in range(count)}
        for index, item in enumerate(alike):
            if index not in kept:
                item.add_marker("nightly")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin each test with the same random state, where its libraries have been imported."""
    random.seed(SEED)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(SEED % 2**32)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(SEED)
