"""The log of this run is found among what the run left, and no other."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tunematrix.errors import BadInput
from tunematrix.evidence.readers import SHIPPED, LogContent, LogFile, LogNotFound, find_log


def state(folder: Path, steps: int, loss: float = 3.5) -> Path:
    """A checkpoint's trainer_state.json."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "trainer_state.json"
    lines = [{"step": n, "loss": loss, "grad_norm": 1.0} for n in range(1, steps + 1)]
    path.write_text(json.dumps({"global_step": steps, "log_history": lines}))
    return path


def printed(path: Path, steps: int) -> Path:
    """The stdout of the same run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"step {n} | loss 3.5\n" for n in range(1, steps + 1)))
    return path


def test_the_checkpoint_with_most_steps(tmp_path: Path) -> None:
    """Earlier checkpoints have the same log, shorter; what else lies there is no log."""
    state(tmp_path / "checkpoint-3", 3)
    last = state(tmp_path / "checkpoint-6", 6)
    (tmp_path / "config.json").write_text('{"vocab_size": 256}')
    (tmp_path / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    (tmp_path / "train.py").write_text("# prints\n# step 9 | loss 3.5\n" * 99)
    log = find_log([tmp_path])
    assert (log.path, log.reader, len(log.steps)) == (last, "trainer_state", 6)
    assert log.others == (tmp_path / "checkpoint-3" / "trainer_state.json",)


def test_a_run_that_only_prints(tmp_path: Path) -> None:
    """Its stdout is read where there is nothing in the output folder, or less."""
    stdout = printed(tmp_path / "stdout.log", 5)
    output = tmp_path / "output"
    assert find_log([output, stdout]).path == stdout
    state(output / "checkpoint-3", 3)
    assert find_log([output, stdout]).path == stdout
    last = state(output / "checkpoint-5", 5)
    assert find_log([output, stdout]).path == last


def test_of_two_logs_of_the_same_run_the_one_that_says_more(tmp_path: Path) -> None:
    """LLaMA-Factory writes both; a gradient norm of nan stands in one of them alone."""
    full = state(tmp_path, 2)
    lines = [{"current_steps": n, "loss": 3.5} for n in (1, 2)]
    (tmp_path / "a_trainer_log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert find_log([tmp_path]).path == full


def test_of_equals_the_newest(tmp_path: Path) -> None:
    """As a trainer that keeps versions side by side leaves them."""
    old, new = printed(tmp_path / "b" / "log", 2), printed(tmp_path / "a" / "log", 2)
    now = time.time()
    os.utime(old, (now - 60, now - 60))
    assert find_log([tmp_path]).path == new
    os.utime(new, (now - 120, now - 120))
    assert find_log([tmp_path]).path == old


def test_a_log_of_an_earlier_run(tmp_path: Path) -> None:
    """However good it is, it isn't read; the message says that it is there."""
    old = state(tmp_path / "checkpoint-6", 6)
    started = time.time()
    os.utime(old, (started - 60, started - 60))
    with pytest.raises(LogNotFound, match=r"trainer_state\.json \(.* bytes: of an earlier run\)"):
        find_log([tmp_path], since=started)
    new = printed(tmp_path / "stdout.log", 1)
    assert find_log([tmp_path], since=started).path == new


def test_a_log_just_written(tmp_path: Path) -> None:
    """A file's time may lag a tick behind the clock; that makes it no older run's."""
    for _ in range(20):
        started = time.time()
        new = printed(tmp_path / "stdout.log", 1)
        assert find_log([tmp_path], since=started).path == new


def test_a_reader_by_name(tmp_path: Path) -> None:
    """It is the only one that looks; a name that isn't there is met with the nearest."""
    stdout = printed(tmp_path / "stdout.log", 3)
    state(tmp_path / "checkpoint-6", 6)
    assert find_log([tmp_path], wanted="step_lines").path == stdout
    with pytest.raises(LogNotFound, match=r"with the log readers csv\. Likely"):
        find_log([tmp_path], wanted="csv")
    with pytest.raises(BadInput, match=r"no log reader is called trainer_stat; did you mean train"):
        find_log([tmp_path], wanted="trainer_stat")


def test_a_malformed_log_beside_a_good_one(tmp_path: Path) -> None:
    """The good one is read; alone, the malformed one is what has to be said."""
    bad = tmp_path / "trainer_state.json"
    bad.write_text('{"global_step": 1, "log_history": [{"loss": "x", "step": 1}]}')
    with pytest.raises(BadInput, match=r"trainer_state\.json: the log reader trainer_state can't"):
        find_log([tmp_path])
    stdout = printed(tmp_path / "stdout.log", 1)
    assert find_log([tmp_path]).path == stdout


def test_nothing_at_all(tmp_path: Path) -> None:
    """An output folder that was never made, and a command that printed nothing."""
    stdout = tmp_path / "stdout.log"
    stdout.touch()
    with pytest.raises(LogNotFound) as caught:
        find_log([tmp_path / "output", stdout])
    text = str(caught.value)
    assert f"{tmp_path}/output and {stdout}: no reader recognised the log of a trainer. " in text
    assert f"Looked at {stdout} (0 bytes), with the log readers {', '.join(SHIPPED)}." in text
    with pytest.raises(LogNotFound, match="Looked at no file at all, with"):
        find_log([tmp_path / "output"])


def test_what_is_no_file(tmp_path: Path) -> None:
    """A pipe that nobody writes to, a link to nowhere and one to itself hold nobody up."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to("absent")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "above").symlink_to(tmp_path)
    stdout = printed(tmp_path / "stdout.log", 1)
    assert find_log([tmp_path]).path == stdout


def test_a_reader_from_outside_has_the_last_word(tmp_path: Path) -> None:
    """Whoever installs a reader knows their trainer's log better than a shipped reader."""

    def mine(log: LogFile) -> LogContent | None:
        return LogContent(()) if log.head.startswith(b"step") else None

    printed(tmp_path / "stdout.log", 3)
    assert find_log([tmp_path], readers={**SHIPPED, "mine": mine}).reader == "mine"


def test_a_reader_that_is_broken(tmp_path: Path) -> None:
    """It is named with its error; one that returns something else, too."""

    def broken(log: LogFile) -> LogContent | None:
        raise KeyError("loss")

    def other(log: LogFile) -> LogContent | None:
        return []  # type: ignore[return-value]

    printed(tmp_path / "stdout.log", 3)
    with pytest.raises(BadInput, match="log reader broken failed with KeyError: 'loss'; mend it"):
        find_log([tmp_path], readers={"broken": broken})
    with pytest.raises(BadInput, match="log reader other returned list, not LogContent; mend it"):
        find_log([tmp_path], readers={"other": other})


def test_the_reader_in_the_docs(tmp_path: Path) -> None:
    """Whoever copies it gets one, and their rows in the page are the readers that there are."""
    page = (Path(__file__).parents[3] / "docs" / "trainer-logs.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"```python\n(.+?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(source, names)
    (tmp_path / "log").write_text("ACME 1\n1 3.5\n2 3.25\n3 3.")
    log = find_log([tmp_path], readers={"acme": names["acme_log"]})
    assert [(step.step, step.loss) for step in log.steps] == [(1, 3.5), (2, 3.25)]
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(SHIPPED)


MEASURE = """
import resource, sys
from pathlib import Path
from tunematrix.evidence.readers import find_log
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
log = find_log([Path(sys.argv[1])])
print(len(log.steps), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_trainer_that_prints_without_end(tmp_path: Path) -> None:
    """The memory that reading takes doesn't grow with what was printed."""
    line = b"worker 3: loaded the shard data/part-00017 with 1024 rows, no loss of packets\n"
    with (tmp_path / "stdout.log").open("wb") as file:
        for step in range(100):
            file.write(line * 4_000)
            file.write(b"step %d | loss 3.5\n" % step)
        file.write(b"x" * 20_000_000)
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    steps, kilobytes = map(int, done.stdout.split())
    assert steps == 100
    assert kilobytes < 20_000
