"""Train a small language model on bytes, in one process or in several under torchrun."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

LENGTH = 64


class TinyModel(nn.Module):
    """Predicts each byte from those before it, with one recurrent layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, width)
        self.layer = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, 256)

    def forward(self, text: Tensor) -> Tensor:
        """Return the loss of some texts, of shape (texts, bytes), in nats per byte."""
        hidden, _ = self.layer(self.embedding(text[:, :-1]))
        return nn.functional.cross_entropy(self.head(hidden).flatten(0, 1), text[:, 1:].flatten())


def read_texts(path: Path) -> Tensor:
    """Return the file's texts as pieces of equal length, of shape (pieces, bytes)."""
    lines = path.read_text(encoding="utf-8").splitlines()
    text = "\n".join(json.loads(line)["text"] for line in lines).encode()
    pieces = len(text) // LENGTH
    return torch.tensor(list(text[: pieces * LENGTH])).reshape(pieces, LENGTH)


def main() -> None:
    """Train, print each step, and save the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--max-steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=8, help="of each process")
    parser.add_argument("--learning-rate", type=float, default=0.01)
    options = parser.parse_args()
    ranks, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    torch.manual_seed(0)
    torch.set_num_threads(1)
    texts = read_texts(options.data)
    model: nn.Module = TinyModel(64)
    if ranks > 1:
        torch.distributed.init_process_group("gloo")
        model = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate)
    for step in range(options.max_steps):
        first = (step * ranks + rank) * options.batch_size
        batch = texts[torch.arange(first, first + options.batch_size) % len(texts)]
        optimizer.zero_grad()
        loss = model(batch)
        loss.backward()
        optimizer.step()
        mean = loss.detach()
        if ranks > 1:
            torch.distributed.all_reduce(mean)
            mean /= ranks
        if rank == 0:
            rate = options.learning_rate
            print(f"step {step} | loss {mean.item():.4f} | lr {rate:g}", flush=True)
    if rank == 0:
        options.output_dir.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), options.output_dir / "model.pt")
    if ranks > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
