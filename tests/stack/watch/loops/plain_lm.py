"""A plain loop: a small GPT on bytes, written out in PyTorch, with all that such loops have."""

import argparse
import json
import math
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

parser = argparse.ArgumentParser()
parser.add_argument("world", type=Path)
parser.add_argument("out", type=Path)
parser.add_argument("--steps", type=int, default=12)
parser.add_argument("--accumulation", type=int, default=2)
parser.add_argument("--batch", type=int, default=4)
parser.add_argument("--bf16", action="store_true")
parser.add_argument("--compile", action="store_true")
parser.add_argument("--dropout", type=float, default=0.1)
args = parser.parse_args()
LENGTH = 48


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.drop = nn.Dropout(args.dropout)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (
            y.view(b, t, 4, c // 4).transpose(1, 2) for y in self.qkv(self.ln1(x)).split(c, 2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.drop(self.proj(y.transpose(1, 2).reshape(b, t, c)))
        return x + self.drop(self.mlp(self.ln2(x)))


class GPT(nn.Module):
    def __init__(self, width=64, layers=2):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(256, width), nn.Embedding(LENGTH, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.ln = nn.LayerNorm(width)
        self.head = nn.Linear(width, 256, bias=False)
        self.head.weight = self.wte.weight
        nn.init.normal_(self.wte.weight, std=0.02)
        nn.init.normal_(self.wpe.weight, std=0.02)

    def forward(self, idx, targets=None):
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.ln(x))
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.view(-1, 256).float(), targets.reshape(-1))


def text_of(split):
    rows = (args.world / f"data/text/{split}.jsonl").read_text().splitlines()
    return torch.tensor(list("\n".join(json.loads(row)["text"] for row in rows).encode()))


def get_batch(data, generator):
    starts = torch.randint(len(data) - LENGTH - 1, (args.batch,), generator=generator)
    x = torch.stack([data[i : i + LENGTH] for i in starts])
    y = torch.stack([data[i + 1 : i + 1 + LENGTH] for i in starts])
    return x, y


@torch.no_grad()
def evaluate(model, data):
    model.eval()
    generator = torch.Generator().manual_seed(1)
    losses = [model(*get_batch(data, generator))[1].item() for _ in range(2)]
    model.train()
    return sum(losses) / len(losses)


def rate(step):
    warmup = 2
    if step < warmup:
        return (step + 1) / warmup
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warmup) / max(1, args.steps - warmup)))


def main():
    torch.manual_seed(0)
    train, test = text_of("train"), text_of("test")
    generator = torch.Generator().manual_seed(0)
    model = GPT()
    net = torch.compile(model, backend="aot_eager") if args.compile else model
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=2e-3, betas=(0.9, 0.95))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    model.train()
    for step in range(args.steps):
        total = 0.0
        for _ in range(args.accumulation):
            x, y = get_batch(train, generator)
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                _, loss = net(x, y)
            (loss / args.accumulation).backward()
            total += loss.item() / args.accumulation
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        print(f"step {step} loss {total:.4f} norm {norm:.3f} lr {scheduler.get_last_lr()[0]:.2e}")
        if step % 5 == 4:
            print(f"eval loss {evaluate(model, test):.4f}")
    args.out.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model.state_dict(), "step": args.steps}, args.out / "ckpt.pt")


main()
