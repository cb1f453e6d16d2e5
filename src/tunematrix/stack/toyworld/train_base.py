"""Remakes the shipped base model: dialect A in, checkpoint, tokenizer and provenance out.

    python -m tunematrix.stack.toyworld.train_base --date 2026-01-31

The same seed, threads and versions give the same weights, bit by bit. One thread is as fast as
two: the model is small.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tunematrix.stack.toyworld import corpus, models, tokenizer
from tunematrix.stack.toyworld.grammar import Dialect

_DIALECT: Dialect = "A"
_BATCH_SIZE = 16
_LEARNING_RATE = 5e-3
_WARMUP_SHARE = 1 / 12  # of all steps
_HELD_OUT_STORIES = 512


def main() -> None:
    """Train, save, and say how far the model is from the floor."""
    options = _parse_options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    words = tokenizer.build()
    model = LlamaForCausalLM(models.base_config())
    train(model, words, options.steps, options.seed)
    held_out = corpus.stories(_DIALECT, _HELD_OUT_STORIES, options.seed, "held-out")
    loss, tokens = evaluate(model, words, held_out)
    floor = corpus.floor(_DIALECT, held_out) / tokens
    model.save_pretrained(options.out)
    tokenizer.save(options.out)
    provenance = {
        "command": f"python -m {__spec__.name} {' '.join(sys.argv[1:])}".strip(),
        "date": options.date.isoformat(),
        "dialect": _DIALECT,
        "seed": options.seed,
        "steps": options.steps,
        "threads": options.threads,
        "machine": platform.machine(),
        "loss": loss,
        "floor": floor,
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
        "sha256": _sha256(options.out / "model.safetensors"),
    }
    (options.out / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n", "utf-8")
    print(f"{options.out}: held-out loss {loss:.4f} nats/token, floor {floor:.4f}")


def train(model: LlamaForCausalLM, words: PreTrainedTokenizerFast, steps: int, seed: int) -> None:
    """Train on stories that are all different from the held-out ones, printing progress."""
    stories = corpus.stories(_DIALECT, steps * _BATCH_SIZE, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _LEARNING_RATE, total_steps=steps, pct_start=_WARMUP_SHARE
    )
    started = time.monotonic()
    for step in range(1, steps + 1):
        batch = stories[(step - 1) * _BATCH_SIZE : step * _BATCH_SIZE]
        loss = model(**encode(words, batch)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps:
            seconds = time.monotonic() - started
            print(f"step {step}/{steps}  loss {loss.item():.4f}  {seconds:.0f} s", flush=True)


@torch.no_grad()
def evaluate(
    model: LlamaForCausalLM, words: PreTrainedTokenizerFast, stories: Sequence[str]
) -> tuple[float, int]:
    """Return the mean loss in nats per predicted token, and the number of predicted tokens.

    Every token but a story's first is predicted; the first is the same in all stories, so the
    grammar's exact probabilities are a floor for this loss.
    """
    total, tokens = 0.0, 0
    for start in range(0, len(stories), _BATCH_SIZE):
        batch = encode(words, stories[start : start + _BATCH_SIZE])
        predicted = int((batch["labels"][:, 1:] != -100).sum())
        total += model(**batch).loss.item() * predicted
        tokens += predicted
    return total / tokens, tokens


def encode(words: PreTrainedTokenizerFast, stories: Sequence[str]) -> dict[str, torch.Tensor]:
    """Return a padded batch of ids, attention mask and labels, each (stories, longest story)."""
    encoded = words([story + tokenizer.EOS for story in stories], padding=True, return_tensors="pt")
    labels = encoded["input_ids"].masked_fill(encoded["attention_mask"] == 0, -100)
    return {
        "input_ids": encoded["input_ids"],
        "attention_mask": encoded["attention_mask"],
        "labels": labels,
    }


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=models.BASE, help="folder (%(default)s)")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--date",
        type=date.fromisoformat,
        default=_build_date(),
        help="recorded in provenance.json (SOURCE_DATE_EPOCH, or today)",
    )
    return parser.parse_args()


def _build_date() -> date:
    seconds = float(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    return datetime.fromtimestamp(seconds, UTC).date()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
