"""A trainer that fits y = 2 x by gradient descent, in plain Python; it fails in any way asked for.

It is copied into a test's project and run as a command, and knows nothing of tunematrix.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--config", default="")
parser.add_argument("--output-dir", required=True)
parser.add_argument("--max-steps", type=int, default=8)
parser.add_argument("--logging-steps", type=int, default=1)
parser.add_argument("--learning-rate", type=float, default=0.1)
parser.add_argument("--save-strategy", default="steps")
parser.add_argument("--batch", type=int, default=10)
parser.add_argument("--verbose", action="store_true")
parser.add_argument("--way", default="honest")
args = parser.parse_args()

output = Path(args.output_dir)
rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def meet(step: int) -> None:
    """Waits until every other process has come as far; the output folder is where they meet."""
    (output / f"met-{step}-{rank}").touch()
    while len(list(output.glob(f"met-{step}-*"))) < world:
        time.sleep(0.01)


def fit() -> list[dict[str, float]]:
    """Takes the steps; every process has its share of the batch, and rank 0 sees all of it."""
    weight, lines = 0.0, []
    for step in range(1, args.max_steps + 1):
        if world > 1:
            if rank == 1 and step == 3:
                misbehave()
            meet(step)
        xs = [(step + i) % 5 + 1 for i in range(args.batch * world)]
        loss = sum((weight * x - 2 * x) ** 2 for x in xs) / len(xs)
        gradient = sum(2 * (weight * x - 2 * x) * x for x in xs) / len(xs)
        rate = 0.0 if args.way == "zero_rate" else args.learning_rate / 10
        weight -= 0.0 if args.way == "flat" else rate * gradient
        line = {"step": step, "loss": loss, "grad_norm": abs(gradient), "learning_rate": rate}
        if args.way == "nan" and step > 3:
            line["loss"] = float("nan")
        if args.way == "hidden_nan" and step > 3:
            line |= {"loss": 0.0, "grad_norm": float("nan")}
        if step % args.logging_steps == 0:
            lines.append(line)
    return lines


def misbehave() -> None:
    """What the second process does in the third step."""
    if args.way == "rank_raises":
        raise RuntimeError("rank 1 has no data left")
    if args.way == "rank_killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if args.way == "rank_hangs":
        time.sleep(600)


def write(lines: list[dict[str, float]]) -> None:
    """Logs, and saves a checkpoint."""
    folder = Path("out") if args.way == "ignore_output" else output
    folder.mkdir(exist_ok=True)
    log = folder / "trainer_logs.json"
    if args.way != "no_log":
        log.write_text(json.dumps({"global_step": args.max_steps, "log_history": lines}))
    if args.way == "old_log":
        os.utime(log, (time.time() - 3600, time.time() - 3600))
    if args.save_strategy != "no" and args.way != "no_checkpoint":
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "config.json").write_text("{}")
    if args.way == "pollute":
        Path("cache.bin").write_bytes(b"x")


if args.way == "ask":
    input("Overwrite? [y/n] ")
if args.way == "print_much":
    line = b"x" * 1_048_575 + b"\n"
    for _ in range(1024):
        os.write(1, line)
if args.way == "allocate":
    held = bytearray(200_000_000)
if args.way == "child":
    subprocess.Popen(["sleep", "600"])
if args.way == "daemon" and os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    time.sleep(600)
if args.way == "hang":
    time.sleep(600)
if args.way == "fail":
    sys.exit(3)
if args.way == "raise":
    raise ValueError("no such template: " + args.config)
if args.way == "mention":
    print("error_rate=0.1", file=sys.stderr)
lines = fit()
if rank == 0 and args.way != "do_nothing":
    write(lines)
if args.verbose:
    print("talkative")
