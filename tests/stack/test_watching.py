"""`tunematrix watch`, its context manager and its place in specs, over a real training loop."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

LOOP = '''
"""A small language model in a plain loop; what is planted is an argument."""
import sys, time, torch
from torch import nn

planted = sys.argv[1] if len(sys.argv) > 1 else ""
torch.manual_seed(0)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(31, 16), nn.Linear(16, 31)
        self.dropout = nn.Dropout(0.1)

    def forward(self, input_ids):
        return self.head(self.dropout(self.embed(input_ids)))


def main():
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    if planted == "other":
        model = Model()
    for step in range(9):
        ids = torch.randint(0, 31, (4, 12))
        logits = model(ids)
        loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        if planted == "raise" and step == 5:
            raise RuntimeError("in the middle")
        optimizer.step()
        if planted != "keep":
            optimizer.zero_grad()
        print("step", step, flush=True)
        while planted == "stay" and step == 5:
            time.sleep(0.1)


if __name__ == "__main__":
    main()
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with that loop, as a project of its own."""
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "train.py").write_text(textwrap.dedent(LOOP))
    return tmp_path


def _watch(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tunematrix", "watch", *words],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _record(folder: Path, state: str = ".tunematrix/watch") -> dict[str, Any]:
    lines = (folder / state / "results.jsonl").read_text().splitlines()
    record: dict[str, Any] = json.loads(lines[-1])
    return record


def _failed(record: dict[str, Any]) -> set[str]:
    return {check["name"] for check in record["checks"] if check["outcome"] == "failed"}


def test_an_honest_loop(folder: Path) -> None:
    """Its own output is passed on, the verdicts follow on stderr, and the record says it all."""
    done = _watch(folder, "--", sys.executable, "train.py")
    assert (done.returncode, _failed(_record(folder))) == (0, set()), done.stderr
    assert done.stdout.splitlines() == [f"step {n}" for n in range(9)]
    assert "watched Model: 9 steps of AdamW in 1 process" in done.stderr
    record = _record(folder)
    assert (record["cell_id"], record["backend"]) == ("train", "cpu")
    assert record["overrides"]["command"] == [sys.executable, "train.py"]
    assert record["versions"]["torch"]
    names = {check["name"] for check in record["checks"]}
    assert {"watched_gradient", "watched_update", "watched_loss", "watched_labels"} <= names


def test_a_planted_fault(folder: Path) -> None:
    """The check is named, the exit code is 1; as JSON, stdout has the record alone."""
    done = _watch(folder, "--json", "-o", "out", "--", sys.executable, "train.py", "keep")
    assert done.returncode == 1
    record = json.loads(done.stdout)
    assert record == _record(folder, "out")
    assert "watched_zeroed" in _failed(record)
    assert "step 8" in done.stderr
    assert not (folder / ".tunematrix" / "watch").exists()


@pytest.mark.nightly
def test_a_loop_that_raises_is_judged_until_then(folder: Path) -> None:
    """By its own exit code, and by what was seen."""
    done = _watch(folder, "--", sys.executable, "train.py", "raise")
    assert done.returncode == 1
    assert "measured exit code 1" in done.stderr
    assert "RuntimeError: in the middle" in done.stderr
    record = _record(folder)
    assert _failed(record) == {"exit", "stderr"}
    assert any(check["name"] == "watched_update" for check in record["checks"])


# A command in which nothing trains: the words, the exit code, and a part of what is said.
NOTHING = {
    "not Python": (["true"], 5, "no process of the command imported PyTorch"),
    "no PyTorch": ([sys.executable, "-c", "print(1)"], 5, "imported PyTorch; give the command"),
    "no optimizer": ([sys.executable, "-c", "import torch"], 5, "no step of an optimizer"),
    "no probe": ([sys.executable, "-I", "train.py"], 5, "ignore PYTHONPATH"),
    "its own code": ([sys.executable, "-c", "raise SystemExit(3)"], 1, "exit code 3"),
    "no program": (["no-such-program"], 4, "there is no program no-such-program"),
    "nothing": ([], 4, "Missing argument"),
}


LATE = {"no optimizer", "no probe"}
"""Those that import PyTorch, and take longer."""


@pytest.mark.each_time(1)
@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.nightly] * (kind in LATE)) for kind in NOTHING],
)
def test_a_command_in_which_nothing_is_watched(folder: Path, kind: str) -> None:
    """It is never green, and says what was seen instead."""
    words, code, text = NOTHING[kind]
    done = _watch(folder, "--", *words, COLUMNS="400")
    assert done.returncode == code, done.stderr
    assert text in " ".join(done.stderr.split())


@pytest.mark.nightly
def test_the_time_limit(folder: Path) -> None:
    """The command is ended, says where it hangs, and what was seen is judged."""
    done = _watch(folder, "--timeout", "12", "--", sys.executable, "train.py", "stay")
    assert done.returncode == 1
    assert "ran past its 12 s" in done.stderr
    assert _failed(_record(folder)) == {"exit"}


@pytest.mark.nightly
def test_a_kill_leaves_what_was_seen(folder: Path) -> None:
    """A process that is killed has no last line."""
    words = [sys.executable, "-m", "tunematrix", "watch", "--", sys.executable, "train.py", "stay"]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        for line in watching.stdout:
            if line.strip() == "step 5":
                break
        (probe,) = folder.glob(".tunematrix/watch/runs/*/*/probe/*.jsonl")
        time.sleep(0.5)
        os.kill(int(probe.name.partition("-")[0]), signal.SIGKILL)
    assert watching.returncode == 1
    record = _record(folder)
    assert _failed(record) == {"exit"}
    assert any(check["name"] == "watched" for check in record["checks"])


@pytest.mark.nightly
def test_ctrl_c_ends_the_command_and_judges_what_was_seen(folder: Path) -> None:
    """As for a long training of which one has seen enough."""
    words = [sys.executable, "-m", "tunematrix", "watch", "--", sys.executable, "train.py", "stay"]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        for line in watching.stdout:
            if line.strip() == "step 5":
                break
        (probe,) = folder.glob(".tunematrix/watch/runs/*/*/probe/*.jsonl")
        watching.send_signal(signal.SIGINT)
    assert watching.returncode == 2
    assert not psutil.pid_exists(int(probe.name.partition("-")[0]))
    record = _record(folder)
    assert _failed(record) == {"exit"}
    assert any(check["name"] == "watched_update" for check in record["checks"])


def test_a_block_of_a_script(folder: Path) -> None:
    """The verdicts are printed where it ends, and can be asserted; what is raised goes on."""
    script = """
        import sys, tunematrix
        with tunematrix.watch() as seen:
            import train
            train.main()
        assert seen.failed == (), seen.failed
        assert "tunematrix_probe" not in sys.path[0]
        train.planted = "other"
        with tunematrix.watch(quiet=True) as seen:
            train.main()
        assert "watched_trainable" in seen.failed, seen.failed
        train.planted = "raise"
        with tunematrix.watch() as seen:
            train.main()
    """
    (folder / "block.py").write_text(textwrap.dedent(script))
    words = [sys.executable, "block.py"]
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert "RuntimeError: in the middle" in done.stderr
    assert done.stdout.count("watched Model: 9 steps of AdamW") == 1


@pytest.mark.nightly
def test_a_spec_of_a_trainer(folder: Path) -> None:
    """`watch: true` has a trainer's command judged from the inside, and known failures name it."""
    (folder / "pyproject.toml").write_text(
        textwrap.dedent("""
        [tool.pytest.ini_options]
        tunematrix_specs = ["specs"]
        [tool.tunematrix.trainers.mine]
        command = ["{python}", "train.py", "{dynamic_args}"]
        argument = ["{name}={value}"]
        environment = {OUT = "{output_dir}"}
        """)
    )
    (folder / "specs").mkdir()
    (folder / "train.py").write_text(
        (folder / "train.py").read_text().replace("sys.argv[1]", 'sys.argv[1].partition("=")[2]')
    )
    spec = """
        test_id: {name}
        recipe: command
        dynamic_args: {{planted: {name}}}
        watch: true
        min_steps_logged: 0
        known_failures:
          - {{when: {{backend: cpu}}, check: trainer_log, reason: it logs nothing, link: https://x.y/z}}
    """
    for name in ("honest", "other"):
        (folder / "specs" / f"{name}.yaml").write_text(textwrap.dedent(spec.format(name=name)))
    words = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "specs"]
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )
    lines = (folder / ".tunematrix/cpu/results.jsonl").read_text().splitlines()
    honest, other = map(json.loads, lines)
    watched = [one for one in honest["checks"] if one["name"].startswith("watched")]
    assert {one["outcome"] for one in watched} == {"passed"}, done.stdout
    assert "watched_trainable" in _failed(other)
    shutil.rmtree(folder / ".tunematrix")
