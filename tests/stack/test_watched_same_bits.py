"""Training that libraries drive, under the probe and without it: the same to the bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.optim import AdamW8bit
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments, set_seed

from tunematrix.probe import tunematrix_probe

ROOT = Path(__file__).parents[2]


def records(folder: Path) -> list[dict[str, Any]]:
    """Return what the probe wrote, of all processes."""
    files = sorted((folder / "probe").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def trained(folder: Path) -> list[float]:
    """Train LoRA with dropout over two micro-batches a step, with Trainer."""
    set_seed(3)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, pad_token_id=0, eos_token_id=2,
    )  # fmt: skip
    lora = LoraConfig(r=2, lora_dropout=0.2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(LlamaForCausalLM(config), lora)
    rows = torch.randint(3, 32, (16, 10), generator=torch.Generator().manual_seed(1))
    data = [
        {"input_ids": row, "labels": row, "attention_mask": torch.ones_like(row)} for row in rows
    ]
    arguments = TrainingArguments(
        str(folder), per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=6,
        logging_steps=1, report_to=[], use_cpu=True, save_strategy="no", disable_tqdm=True,
        gradient_checkpointing=True,
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=data)
    trainer.train()
    losses = [float(line["loss"]) for line in trainer.state.log_history if "loss" in line]
    weights = [float(p.detach().double().sum()) for p in model.parameters()]
    return [*losses, *weights, torch.rand(1).item()]


def test_a_trainer_comes_out_the_same(tmp_path: Path) -> None:
    """LoRA with dropout, accumulation and recomputed activations; each gradient is our own."""
    without = trained(tmp_path / "out")
    tunematrix_probe.start(str(tmp_path))
    try:
        with_probe = trained(tmp_path / "out")
    finally:
        tunematrix_probe.stop()
    assert with_probe == without
    rows = records(tmp_path)
    gradients = [row for row in rows if row["kind"] == "SeenGradient"]
    # Six is no power of two: the trainer says beforehand which step is the last.
    assert [g["step"] for g in gradients] == [0, 1, 3, 5]
    assert all(g["error"] < 1e-4 and g["passes"] == 2 for g in gradients)
    assert not [row for row in rows if row["kind"] == "SwitchedOff"]


def in_eight_bits() -> list[float]:
    """Train by an optimizer that keeps its moments in eight bits, and one tensor's in 32."""
    set_seed(3)
    model = torch.nn.Sequential(
        torch.nn.Embedding(64, 96), torch.nn.Dropout(0.1), torch.nn.Linear(96, 64)
    )
    optimizer = AdamW8bit(model.parameters(), lr=1e-3, min_8bit_size=1024)
    losses = []
    for _ in range(4):
        rows = torch.randint(0, 64, (4, 16))
        logits = model(rows)[:, :-1].flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, rows[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert torch.uint8 in {one["state1"].dtype for one in optimizer.state.values()}
    weights = [float(p.detach().double().sum()) for p in model.parameters()]
    return [*losses, *weights, torch.rand(1).item()]


def test_an_optimizer_in_eight_bits_comes_out_the_same(tmp_path: Path) -> None:
    """Its formula isn't known, so that its gradients are judged, and that it moves."""
    without = in_eight_bits()
    tunematrix_probe.start(str(tmp_path))
    try:
        with_probe = in_eight_bits()
    finally:
        tunematrix_probe.stop()
    assert with_probe == without
    rows = records(tmp_path)
    gradients = [row for row in rows if row["kind"] == "SeenGradient"]
    assert gradients and all(g["error"] < 1e-4 for g in gradients)
    updates = [row for row in rows if row["kind"] == "SeenUpdate"]
    assert {(u["rule"], u["error"], u["moved"]) for u in updates} == {("", None, 3)}
    assert not [row for row in rows if row["kind"] == "SwitchedOff" and row["is_error"]]


@pytest.mark.nightly
def test_two_processes_come_out_the_same(tmp_path: Path) -> None:
    """Each has a file of its own; weights and gradients are the same in both, rows aren't."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, "-m", "tests.stack.watched_ranks", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.replace("\n", "") == "samesame", done.stderr
    rows = records(tmp_path)
    assert sorted(r["rank"] for r in rows if r["kind"] == "ProbeStarted") == [0, 1]
    weights = [r for r in rows if r["kind"] == "SeenWeights"]
    for step in (0, 1, 3):
        first, second = (r for r in weights if r["step"] == step)
        assert first["weights"] == second["weights"]
        assert first["gradients"] == second["gradients"]
    # No process alone can make the mean; what each would have reached has that of both.
    gradients = [r for r in rows if r["kind"] == "SeenGradient" and r["step"] == 1]
    mean = torch.tensor([g["own"] for g in gradients]).mean(dim=0)
    reached = torch.tensor(gradients[0]["reached"])
    scale = float((reached * mean).sum() / (mean * mean).sum())
    assert float((reached - scale * mean).abs().max()) < 1e-4 * float(reached.abs().max())
    digests = [set(r["digests"]) for r in rows if r["kind"] == "SeenBatch"]
    assert len(set.union(*digests)) == 32
