"""How the probe comes into a process, and what it does where it can't look at anything."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import pytest

from tunematrix import probe
from tunematrix.probe.tunematrix_probe import waiting

FOLDER = Path(probe.__file__).parent


def run(script: str, watched: Path, *path: Path, **variables: str) -> str:
    """Run a script in a process that the probe enters, and return what it printed, errors too."""
    env: Mapping[str, str] = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, [FOLDER, *path])),
        "TUNEMATRIX_WATCH": str(watched),
        **variables,
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=120
    )
    return done.stdout + done.stderr


def test_a_process_without_torch_costs_nothing(tmp_path: Path) -> None:
    """It has no file, imports none of the probe's observers, and a path without the probe."""
    script = f"""
import sys
own = sorted(m for m in sys.modules if m.startswith("tunematrix_probe"))
print(own, {str(FOLDER)!r} in sys.path)
"""
    assert run(script, tmp_path) == "['tunematrix_probe', 'tunematrix_probe.waiting'] False\n"
    assert list(tmp_path.iterdir()) == []


def test_a_sitecustomize_of_the_users_own_is_run(tmp_path: Path) -> None:
    """Python would import the first one alone; an error of its own goes on as it would."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("MINE = 7\nprint('mine', __name__)\n")
    script = "import sitecustomize; print(sitecustomize.MINE)"
    assert run(script, tmp_path, own) == "mine sitecustomize\n7\n"


def test_what_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    """The folder is a file; the training goes on."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    script = """
import torch
m = torch.nn.Linear(2, 1)
o = torch.optim.SGD(m.parameters(), lr=0.1)
for _ in range(2):
    m(torch.ones(1, 2)).sum().backward()
    o.step()
print("trained")
"""
    said = run(script, blocked)
    assert said.count("tunematrix: this process isn't watched") == 1
    assert "Traceback" not in said and "trained\n" in said


def test_the_call_comes_right_after_the_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that is waited for is imported as always; then the call is made, once."""
    (tmp_path / "arrives_late.py").write_text("STATE = ['imported']\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    calls = []

    def arrived() -> None:
        calls.append(list(sys.modules["arrives_late"].STATE))

    waiting.call_after("arrives_late", arrived)
    try:
        late = import_module("arrives_late")
    finally:
        waiting.forget()
    assert calls == [["imported"]]
    assert "exec_module" not in vars(late.__loader__)
    waiting.call_after("arrives_late", arrived)
    assert len(calls) == 2
    assert not any(isinstance(f, waiting.WaitingFinder) for f in sys.meta_path)
