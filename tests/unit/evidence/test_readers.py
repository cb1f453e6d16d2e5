"""Logs of real trainers, whole, cut off and damaged, are read as what they say."""

from __future__ import annotations

import json
import math
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from tunematrix.errors import BadInput
from tunematrix.evidence.events import LoggedStep
from tunematrix.evidence.readers import SHIPPED, LogFile, LogNotFound, TrainerLog, read_log

LOGS = Path(__file__).parent / "logs"

# Written by hand in the form of these programs' logs, with made-up numbers; none is of a run.
FORMS = {
    "own.jsonl": (
        '{"step": 1, "loss": 7.5, "grad_norm": NaN, "lr": 1e-07}\n'
        '{"step": 1, "eval_loss": 7.1}\n'
        '{"step": 2, "loss": Infinity, "grad_norm": 1, "lr": 0}\n'
    ),
    "trainer_logs.json": (
        '[\n{"timestamp": 1795865455.1, "global_step": 10, "epoch": 0.1, "loss": 8.25, '
        '"grad_norm": 1.5, "learning_rate": 0.001},\n'
        '{"timestamp": 1795865456.1, "global_step": 10, "epoch": 0.1, "eval_loss": 8.0},\n'
        '{"timestamp": 1795865457.1, "global_step": 20, "epoch": 0.2, "loss": NaN, '
        '"grad_norm": Infinity, "learning_rate": 0.0009}\n]'
    ),
    "megatron.txt": (
        " iteration       10/     100 | consumed samples:           80 | elapsed time per "
        "iteration (ms): 12.3 | learning rate: 1.000E-04 | global batch size:     8 | "
        "lm loss: 9.123E+00 | loss scale: 1.0 | grad norm: 1.250 | "
        "number of skipped iterations:   0 |\n"
    ),
    "torchtitan.txt": (
        "[titan] 2026-01-02 03:04:05,678 - root - INFO - step:  1  loss:  8.1354  grad_norm:  inf"
        "  memory:  1.04GiB(3.00%)  tps: 1,145  mfu: 0.10%\n"
    ),
    "one_stream.txt": (
        "{'loss': 8.2663, 'grad_norm': nan, 'learning_rate': 1e-07, 'epoch': 0.1}\r\n"
        " 33%|███▎      | 2/6 [00:01<00:02,  1.9it/s]"
        "{'loss': 0.0, 'grad_norm': inf, 'learning_rate': 5e-08, 'epoch': 0.2}\n"
        "{'eval_loss': 8.1, 'epoch': 0.2}\n"
        "{'train_runtime': 1.2, 'train_loss': 4.1, 'epoch': 0.2}\n"
    ),
    "metrics.tsv": "iteration\tloss\tlr\n100\t1e-07\t0.5\n200\tnan\t0.25\n300\t-7.5\t0\n",
}
READ = {
    "trainer_state.json": (
        "trainer_state",
        [
            (1, 8.266276359558105, 4.29617977142334, 0.001),
            (2, 8.219573020935059, 4.52168083190918, 0.0008333333333333334),
        ],
    ),
    "trainer_state_nan.json": (
        "trainer_state",
        [
            (1, 8.266276359558105, 14.91796588897705, 1e30),
            (2, 5.545176982879639, math.nan, 7.500000000000001e29),
            (3, 0.0, math.nan, 5e29),
        ],
    ),
    "trl_sft.txt": (
        "dict_lines",
        [
            (1, 8.266, 4.296, 0.001),
            (2, 8.22, 4.522, 0.0008333),
            (3, 7.83, 4.369, 0.0006667),
        ],
    ),
    "mlx_lora.txt": (
        "mlx_table",
        [(n, loss, None, None) for n, loss in enumerate((8.352, 5.881, 4.698, 4.014, 4.175), 1)],
    ),
    "torchrun.txt": (
        "step_lines",
        [
            (n, loss, None, 0.001)
            for n, loss in enumerate((8.3911, 6.0623, 5.4679, 4.6564, 4.2655, 3.8932))
        ],
    ),
    "lightning_metrics.csv": (
        "csv",
        [
            (0, 8.324422836303711, None, None),
            (1, 5.986576080322266, None, None),
            (2, 5.40835428237915, None, None),
            (3, 4.9465556144714355, None, None),
            (4, 4.4568634033203125, None, None),
            (5, 4.399528980255127, None, None),
        ],
    ),
    "litgpt_metrics.csv": (
        "csv",
        [
            (1, 5.677828311920166, None, 0.01),
            (2, 5.690513610839844, None, 0.02),
            (3, 5.543978214263916, None, 0.01984807753012208),
        ],
    ),
    "tensorboardx.events": (
        "tensorboard",
        [
            (1, 8.25, 4.5, 0.0010000000474974513),
            (2, 7.75, math.nan, 0.0005000000237487257),
            (3, 1.0000000116860974e-07, 2.0, 0.00033333332976326346),
        ],
    ),
    "llama_factory.jsonl": (
        "json_lines",
        [
            (1, 7.5229620933532715, None, 0.01),
            (2, 6.298435688018799, None, 0.01),
            (3, 5.597881317138672, None, 0.01),
            (20, 2.341726303100586, None, 0.01),
        ],
    ),
    "own.jsonl": ("json_lines", [(1, 7.5, math.nan, 1e-07), (2, math.inf, 1.0, 0.0)]),
    "swift.jsonl": (
        "json_lines",
        [
            (1, 8.10161686, 5.85386276, 0.00093301),
            (2, 7.80272818, 6.43541479, 0.00075),
        ],
    ),
    "trainer_logs.json": (
        "trainer_logs",
        [(10, 8.25, 1.5, 0.001), (20, math.nan, math.inf, 0.0009)],
    ),
    "torchtune.txt": (
        "step_lines",
        [
            (1, 8.363277435302734, None, 0.001),
            (2, 5.818540573120117, None, 0.001),
            (3, 5.203760623931885, None, 0.001),
            (4, 5.151276588439941, None, 0.001),
        ],
    ),
    "mlx_lm_old.txt": (
        "step_lines",
        [(1, 8.352, None, 0.001), (2, 5.881, None, 0.001), (3, 4.698, None, 0.001)],
    ),
    "mlx_lm_lora_dpo.txt": (
        "step_lines",
        [(1, 0.693, None, 0.001), (2, 0.271, None, 0.001), (3, 0.059, None, 0.001)],
    ),
    "nano_gpt.txt": (
        "step_lines",
        [(n, loss, None, None) for n, loss in enumerate((10.8364, 10.8132, 10.816, 10.8381))],
    ),
    "megatron.txt": ("step_lines", [(10, 9.123, 1.25, 1e-4)]),
    "torchtitan.txt": ("step_lines", [(1, 8.1354, math.inf, None)]),
    "litgpt.txt": (
        "step_lines",
        [(9, 4.471, None, None), (10, 4.39, None, None), (11, 4.382, None, None)],
    ),
    "trl_sft_old.txt": (
        "dict_lines",
        [
            (1, 8.1094, 4.199337959289551, 0.001),
            (2, 8.0669, 4.510436058044434, 0.0008333333333333334),
        ],
    ),
    "one_stream.txt": (
        "dict_lines",
        [(1, 8.2663, math.nan, 1e-07), (2, 0.0, math.inf, 5e-08)],
    ),
    "lightning_monitored.csv": (
        "csv",
        [
            (0, 3.446794271469116, 4.237532615661621, 0.001),
            (1, 4.753777503967285, 7.306185722351074, 0.001),
            (2, 0.8907462358474731, 1.8082890510559082, 0.001),
        ],
    ),
    "metrics.tsv": (
        "csv",
        [(100, 1e-07, None, 0.5), (200, math.nan, None, 0.25), (300, -7.5, None, 0.0)],
    ),
}

EVALUATIONS = {"10.8366", "10.8231"}
"""nanoGPT's own losses of its training data: all there is where it has no training line yet."""


def content_of(name: str) -> bytes:
    """The log of a trainer, byte by byte."""
    return FORMS[name].encode() if name in FORMS else (LOGS / name).read_bytes()


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
