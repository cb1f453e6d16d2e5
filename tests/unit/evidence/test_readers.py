"""Logs of real trainers, whole, cut off and damaged, are read as what they say."""

from __future__ import annotations

import json
import math
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from tests.unit.evidence.trainer_logs import EVALUATIONS, FORMS, LOGS, READ, content_of

from tunematrix.errors import BadInput
from tunematrix.evidence.events import LoggedStep
from tunematrix.evidence.readers import SHIPPED, LogFile, LogNotFound, TrainerLog, read_log


def log(folder: Path, content: bytes | str) -> Path:
    """A log under a name that says nothing."""
    path = folder / "anything"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(log: TrainerLog) -> str:
    """Its steps, in a form in which nan equals nan."""
    return repr([(s.step, s.loss, s.gradient_norm, s.learning_rate) for s in log.steps])


def test_each_excerpt_is_read() -> None:
    """No file lies there for nothing."""
    assert {path.name for path in LOGS.iterdir()} - {"README.md"} | set(FORMS) == set(READ)


@pytest.mark.parametrize("name", READ)
def test_a_whole_log(tmp_path: Path, name: str) -> None:
    """Whatever the file is called, its reader knows it, and every number is what was written."""
    reader, expected = READ[name]
    found = read_log(log(tmp_path, content_of(name)))
    assert (found.reader, rows(found)) == (reader, repr(expected))
    assert not found.cut_off


@pytest.mark.each_time(4)
@pytest.mark.parametrize("name", READ)
def test_a_log_cut_off_at_every_byte(tmp_path: Path, name: str) -> None:
    """What is whole is kept; a number that lost digits is no smaller number."""
    content = content_of(name)
    whole = {step.step: step for step in read_log(log(tmp_path, content)).steps}
    most = 0
    for length in range(len(content)):
        try:
            kept = read_log(log(tmp_path, content[:length])).steps
        except LogNotFound:
            assert not most, f"cut at {length}"
            continue
        assert len(kept) >= most, f"cut at {length}"
        most = len(kept)
        for step in kept:
            assert_part(step, whole[step.step], f"cut at {length}")
    assert most >= len(whole) - 1


@pytest.mark.each_time(4)
@pytest.mark.parametrize("name", READ)
def test_a_log_whose_beginning_was_rotated_away(tmp_path: Path, name: str) -> None:
    """The same at the other end; lines without a number of their own are counted anew."""
    content = content_of(name)
    losses = {rounded(step) for step in read_log(log(tmp_path, content)).steps}
    for start in range(1, len(content), 3):
        try:
            kept = read_log(log(tmp_path, content[start:])).steps
        except LogNotFound:
            continue
        assert {rounded(step) for step in kept} <= losses | EVALUATIONS, f"from {start}"


def rounded(step: LoggedStep) -> str:
    """A loss to eight digits: ms-swift writes it so, and once more with all digits in the end."""
    assert step.loss is not None
    return repr(round(step.loss, 8))


def assert_part(step: LoggedStep, whole: LoggedStep, where: str) -> None:
    """Each value is the whole log's, or isn't there yet."""
    for name in ("loss", "gradient_norm", "learning_rate"):
        value = getattr(step, name)
        allowed = {repr(None), repr(getattr(whole, name)), *EVALUATIONS}
        assert repr(value) in allowed, (where, name)


@pytest.mark.each_time(4)
@pytest.mark.parametrize("name", READ)
def test_a_log_with_a_damaged_byte(tmp_path: Path, name: str) -> None:
    """The rest is read, or the one error is raised that becomes a message; no other."""
    content = content_of(name)
    for position in range(0, len(content), 11):
        for byte in (b"\xff", b"\n", b'"'):
            damaged = LogFile(log(tmp_path, content[:position] + byte + content[position + 1 :]))
            for reader in SHIPPED.values():
                with suppress(ValueError):
                    reader(damaged)


@pytest.mark.parametrize("name", ["trainer_state.json", "trainer_logs.json"])
def test_a_document_that_is_being_written(tmp_path: Path, name: str) -> None:
    """It says that its end is missing."""
    content = content_of(name)
    assert read_log(log(tmp_path, content[: content.rindex(b"]")])).cut_off


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        "[\n",
        '{"log_history": []}',
        "step 1: 3.5",
        "the loss was 3.5 after the first step\n",
        '{"loss": "high", "step": 1}\n',
        json.dumps({f"word{n}": n for n in range(300)} | {"loss": 7, "step": 8}),
        "step,val_loss\n1,3.5\n",
        "warmup steps: 100, loss: cross_entropy\n",
        "Best step: 3, loss: 2.1\n",
        "model.layers.0.mlp 1.5\nval loss 3.5 at step 7\n",
        "step 7 | val loss 3.5\n",
    ],
)
def test_a_log_of_nobody(tmp_path: Path, text: str) -> None:
    """No reader guesses; the message says who looked at how much, and what to do."""
    with pytest.raises(LogNotFound) as caught:
        read_log(log(tmp_path, text))
    assert f"anything ({len(text):,} bytes), with the log readers trainer_state, " in str(
        caught.value
    )
    assert str(caught.value).endswith("or add a reader (docs/trainer-logs.md).")
    (looked_at,) = caught.value.looked_at
    assert (looked_at.path.name, looked_at.size) == ("anything", len(text))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"loss": 3.5}, "step is None in the line {'loss': 3.5}"),
        ({"step": 1, "loss": "x"}, "loss is 'x' in the line"),
        ({"step": 1, "loss": True}, "loss is True in the line"),
        ({"step": 1, "loss": 1, "grad_norm": "x"}, "grad_norm is 'x' in the line"),
    ],
)
def test_a_malformed_line(tmp_path: Path, line: dict[str, object], reason: str) -> None:
    """Named with the file and the line's content."""
    state = json.dumps({"global_step": 2, "log_history": [line]})
    with pytest.raises(BadInput) as caught:
        read_log(log(tmp_path, state))
    assert f"anything: the log reader trainer_state can't read it: {reason}" in str(caught.value)


def test_a_trainer_that_logged_no_loss(tmp_path: Path) -> None:
    """Its log is recognised all the same: that there is no step in it is what matters."""
    found = read_log(log(tmp_path, '{"global_step": 2, "log_history": [{"eval_loss": 1}]}'))
    assert (found.reader, found.steps) == ("trainer_state", ())


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    """Nothing to read is no log without steps."""
    with pytest.raises(BadInput, match=r"absent: can't be read: .*; check the path"):
        read_log(tmp_path / "absent")


def test_a_step_that_each_rank_prints(tmp_path: Path) -> None:
    """It counts once, and the nan of one rank isn't covered up by the others."""
    lines = [f"step {n} | loss {loss}" for n in (0, 1) for loss in ("3.5", "nan", "3.25")]
    found = read_log(log(tmp_path, "\n".join(lines) + "\n"))
    assert rows(found) == repr([(0, math.nan, None, None), (1, math.nan, None, None)])


def test_a_trainer_that_resumed(tmp_path: Path) -> None:
    """What it had trained after the checkpoint is trained again, and counts once."""
    lines = [json.dumps({"step": n, "loss": n / 2}) for n in (1, 2, 3, 4)]
    lines += [json.dumps({"step": n, "loss": n / 4}) for n in (3, 4, 5)]
    found = read_log(log(tmp_path, "\n".join(lines)))
    assert [(s.step, s.loss) for s in found.steps] == [
        (1, 0.5), (2, 1.0), (3, 0.75), (4, 1.0), (5, 1.25),
    ]  # fmt: skip


def test_a_trainer_that_counts_anew_in_each_epoch(tmp_path: Path) -> None:
    """All of its steps are kept, and are counted on."""
    lines = [f"Epoch {e}, Step [{n}/3], Loss: {e}.{n}" for e in (1, 2, 3) for n in (1, 2, 3)]
    found = read_log(log(tmp_path, "\n".join(lines) + "\n"))
    assert [s.step for s in found.steps] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert [s.loss for s in found.steps] == [1.1, 1.2, 1.3, 2.1, 2.2, 2.3, 3.1, 3.2, 3.3]


def test_a_summary_at_the_end(tmp_path: Path) -> None:
    """It names a step and a loss, and is none of the training's lines."""
    text = "step 1 | loss 3.5\nstep 2 | loss 3.25\nfinal step: 1, train loss: 9.0\n"
    found = read_log(log(tmp_path, text))
    assert [(s.step, s.loss) for s in found.steps] == [(1, 3.5), (2, 3.25)]


def test_lines_between_other_output(tmp_path: Path) -> None:
    """Warnings, progress bars that overwrite themselves, and colours don't hide the steps."""
    text = (
        "UserWarning: loss_type=None was set\n"
        "\x1b[32mINFO\x1b[0m \x1b[1mstep\x1b[0m \x1b[36m1\x1b[0m loss=\x1b[31m1,145.5\x1b[0m\r\n"
        "  0%|          | 0/2 [00:00<?, ?it/s]\r 50%|█████     | 1/2 [00:00<00:00]\r"
        "INFO step 2 loss=1e-07 lr=0.5\n"
    )
    found = read_log(log(tmp_path, text))
    assert rows(found) == repr([(1, 1145.5, None, None), (2, 1e-07, None, 0.5)])


def test_a_log_that_was_emptied_under_the_writers_hands(tmp_path: Path) -> None:
    """It begins with a hole as long as what was there; the new lines are read."""
    path = tmp_path / "out.log"
    with path.open("wb") as file:
        file.seek(300_000)
        file.write(b"\nstep 7 | loss 3.5\nstep 8 | loss 3.25\n")
    assert [s.step for s in read_log(path).steps] == [7, 8]


def test_more_steps_than_can_be_kept(tmp_path: Path) -> None:
    """Refused with what to do, instead of filling the memory."""
    with (tmp_path / "anything").open("w") as file:
        file.writelines(f"step {n} loss 1\n" for n in range(100_001))
    with pytest.raises(BadInput, match="more than 100000 steps; let the trainer log less often"):
        read_log(tmp_path / "anything")


def test_excerpts_do_not_change_when_they_are_read(tmp_path: Path) -> None:
    """Readers read."""
    path = Path(shutil.copy(LOGS / "trl_sft.txt", tmp_path))
    before = path.stat().st_mtime_ns
    read_log(path)
    assert (path.stat().st_mtime_ns, path.read_bytes()) == (before, content_of("trl_sft.txt"))
