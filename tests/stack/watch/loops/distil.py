"""Distillation: a small student learns the logits of a frozen teacher."""

import argparse
import json
from pathlib import Path

import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("world", type=Path)
parser.add_argument("out", type=Path)
parser.add_argument("--steps", type=int, default=10)
args = parser.parse_args()

torch.manual_seed(0)
tokenizer = AutoTokenizer.from_pretrained(args.world / "base")
teacher = AutoModelForCausalLM.from_pretrained(args.world / "base").eval()
teacher.requires_grad_(False)
student = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=512,
    )
)
student.train()
optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3, weight_decay=0.01)
lines = (args.world / "data/text/train.jsonl").read_text().splitlines()
texts = [json.loads(line)["text"] for line in lines]
TEMPERATURE = 2.0

for step in range(args.steps):
    rows = [texts[(step * 8 + i) % len(texts)] for i in range(8)]
    batch = tokenizer(rows, return_tensors="pt", padding=True)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    with torch.no_grad():
        target = teacher(**batch).logits
    out = student(**batch, labels=labels)
    mask = batch["attention_mask"].bool()
    soft = F.kl_div(
        F.log_softmax(out.logits[mask] / TEMPERATURE, -1),
        F.softmax(target[mask] / TEMPERATURE, -1),
        reduction="batchmean",
    )
    loss = 0.5 * out.loss + 0.5 * TEMPERATURE**2 * soft
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"step {step} loss {loss.item():.4f}")
student.save_pretrained(args.out / "final")
