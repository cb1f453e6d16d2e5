"""Many pytest runs out of one Python that has imported everything: each in a fork of its own.

    python forks.py < RUNS    a JSON list of [folder, arguments, variables]; prints [[code, text]]

A run costs a tenth of what a new interpreter would.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence

import hydra.utils  # noqa: F401  # what a cell imports
import pytest

import tunematrix.plugin.hooks
import tunematrix.run.worker  # noqa: F401
from tunematrix.report.html import page  # noqa: F401

LEAVE = os._exit  # as it is before a run watches it


def run(folder: str, arguments: Sequence[str], variables: Mapping[str, str]) -> tuple[int, str]:
    """Return how pytest ended in a folder, and what it wrote."""
    with tempfile.TemporaryFile() as out:
        if not (pid := os.fork()):
            os.chdir(folder)
            os.environ |= variables
            sys.path[0] = folder
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
            sys.argv = ["pytest", *arguments]
            code = 3
            try:
                code = int(pytest.main([*arguments]))
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                LEAVE(code)
        _, status = os.waitpid(pid, 0)
        out.seek(0)
        return os.waitstatus_to_exitcode(status), out.read().decode("utf-8", "replace")


if __name__ == "__main__":
    json.dump([run(*one) for one in json.load(sys.stdin)], sys.stdout)
