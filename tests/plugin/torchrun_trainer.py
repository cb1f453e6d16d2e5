"""A plain DDP script: it fits a line, one share of the batch in each process; copied into projects.

It runs in one process too, and talks by gloo.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

parser = argparse.ArgumentParser()
parser.add_argument("--output-dir", required=True)
parser.add_argument("--max-steps", type=int, default=6)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--way", default="honest")
args = parser.parse_args()

torch.set_num_threads(1)
torch.manual_seed(0)
is_distributed = "RANK" in os.environ
if is_distributed:
    dist.init_process_group("gloo")
rank, world = (dist.get_rank(), dist.get_world_size()) if is_distributed else (0, 1)
model = torch.nn.Linear(4, 1, bias=False)
trained = torch.nn.parallel.DistributedDataParallel(model) if is_distributed else model
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = torch.arange(4 * 64, dtype=torch.float32).reshape(64, 4).remainder(7) / 7
lines: list[str] = []
for step in range(args.max_steps):
    if rank == 1 and step == 3:
        if args.way == "raises":
            raise RuntimeError("rank 1 has no data left")
        if args.way == "hangs":
            time.sleep(600)
    first = (step * world + rank) * args.batch
    rows = data[[(first + i) % 64 for i in range(args.batch)]]
    loss = (trained(rows) - rows.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    shown = loss.detach()
    if is_distributed:
        dist.all_reduce(shown)
        shown /= world
    print(f"step {step} | loss {shown.item():.6f} | lr 1e-1", flush=True)
if is_distributed:
    dist.destroy_process_group()
if rank == 0:
    Path(args.output_dir, "done.json").write_text(json.dumps({"world": world}))
# On a busy machine, 1 of 40 ordinary ends with torch 2.13 aborts in a destructor that runs after
# Python's ("terminate called without an active exception"); what is tested here comes before it.
sys.stdout.flush()
os._exit(0)
