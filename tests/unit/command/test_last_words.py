"""Which of several processes is to blame, by what each has printed; the logs are torch 2.13's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunematrix.command.guarded import Outcome
from tunematrix.command.invocation import Invocation
from tunematrix.command.ranks import blamed
from tunematrix.evidence.run_dir import RunDir
from tunematrix.matrix.cells import expand
from tunematrix.matrix.compose import compose
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.spec.model import Spec

RAISED = """[rank1]: Traceback (most recent call last):
[rank1]:   File "/project/train.py", line 37, in <module>
[rank1]:     raise RuntimeError("rank 1 has no data left")
[rank1]: RuntimeError: rank 1 has no data left
"""
CUT_OFF = """[rank0]: Traceback (most recent call last):
[rank0]:   File "/project/train.py", line 44, in <module>
[rank0]:     loss.backward()
[rank0]: RuntimeError: [third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer
"""
ABORTED = """terminate called without an active exception
Fatal Python error: Aborted

Thread 0x00007f08865f4b80 (most recent call first):
  <no Python frame>

Extension modules: numpy._core._multiarray_umath, torch._C (total: 22)
"""
CRASHED = """Fatal Python error: Segmentation fault

Current thread 0x00007f08865f4b80 (most recent call first):
  File "/project/kernels.py", line 8 in fused
  File "/project/train.py", line 40 in <module>
"""


@pytest.fixture
def invocation(tmp_path: Path) -> Invocation:
    """A command of two processes whose run folder is empty."""
    groups = read_groups([shipped_configs()])
    spec = Spec.model_validate({"test_id": "two", "recipe": "sft", "matrix": {"launcher": ["ddp"]}})
    (cell,), _ = expand(spec, groups, ["cpu"])
    return Invocation(compose(cell, groups), RunDir(tmp_path))


def say(invocation: Invocation, *texts: str) -> None:
    """Write what each process printed."""
    for rank, text in enumerate(texts):
        log = invocation.rank_logs / "run" / "attempt_0" / str(rank) / "stderr.log"
        log.parent.mkdir(parents=True)
        log.write_text(text)


@pytest.mark.parametrize("afterwards", ["", ABORTED])
def test_an_exception_is_told_whatever_follows_it(invocation: Invocation, afterwards: str) -> None:
    """A library may abort once Python has ended; that isn't why the process failed."""
    say(invocation, CUT_OFF, RAISED + afterwards)
    found = blamed(invocation, Outcome(codes=(1,)))
    assert found is not None and (found.rank, found.how) == (1, "raised an exception")
    assert "[rank1]: RuntimeError: rank 1 has no data left" in found.last_lines
    assert not any("Extension modules" in line for line in found.last_lines)


def test_a_crash_after_an_exception_that_was_caught(invocation: Invocation) -> None:
    """Says where Python was when it came."""
    say(invocation, CUT_OFF, RAISED + CRASHED)
    found = blamed(invocation, Outcome(codes=(1,)))
    assert found is not None and found.rank == 1
    assert found.last_lines[0] == 'File "/project/kernels.py", line 8 in fused'
