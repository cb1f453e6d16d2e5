"""Logs of trainers, and what is to be read from each of them."""

from __future__ import annotations

import math
from pathlib import Path

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
