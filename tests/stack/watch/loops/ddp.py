"""Data parallel training of a small language model: `torchrun --nproc-per-node 2 ddp.py`."""

import argparse
import json
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

parser = argparse.ArgumentParser()
parser.add_argument("world", type=Path)
parser.add_argument("out", type=Path)
parser.add_argument("--epochs", type=int, default=2)
args = parser.parse_args()
LENGTH = 64


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(256, 48)
        self.rnn = nn.GRU(48, 96, batch_first=True)
        self.norm = nn.LayerNorm(96)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(96, 256)

    def forward(self, x):
        hidden, _ = self.rnn(self.embedding(x))
        return self.head(self.dropout(self.norm(hidden)))


def pieces():
    lines = (args.world / "data/text/train.jsonl").read_text().splitlines()
    text = "\n".join(json.loads(line)["text"] for line in lines).encode()
    count = len(text) // LENGTH
    return torch.tensor(list(text[: count * LENGTH])).view(count, LENGTH)[:192]


def main():
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.set_num_threads(1)
    torch.manual_seed(1234)
    model = Model()
    net = DistributedDataParallel(model)
    torch.manual_seed(1234 + rank)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    data = pieces()
    sampler = DistributedSampler(data)
    loader = DataLoader(data, batch_size=16, sampler=sampler)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(args.epochs):
        sampler.set_epoch(epoch)
        for batch in loader:
            optimizer.zero_grad()
            logits = net(batch[:, :-1])
            loss = criterion(logits.flatten(0, 1), batch[:, 1:].flatten())
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        if rank == 0:
            print(f"epoch {epoch} loss {mean.item() / dist.get_world_size():.4f}", flush=True)
    dist.barrier()
    if rank == 0:
        args.out.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), args.out / "model.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
