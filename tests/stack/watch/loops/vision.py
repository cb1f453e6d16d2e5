"""Images: a small CNN with batch norm and dropout, random augmentation in workers, float16."""

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

parser = argparse.ArgumentParser()
parser.add_argument("world", type=Path)
parser.add_argument("out", type=Path)
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--amp", default="")
parser.add_argument("--workers", type=int, default=2)
args = parser.parse_args()


class Stripes(Dataset):
    """Images of stripes in four directions; each is shifted and made noisy at random."""

    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        self.kinds = torch.randint(4, (count,), generator=generator)
        self.phases = torch.rand(count, generator=generator) * 6.28

    def __len__(self):
        return len(self.kinds)

    def __getitem__(self, index):
        y, x = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
        axis = [x, y, x + y, x - y][self.kinds[index]]
        image = torch.sin(axis + self.phases[index])
        image = torch.roll(image, int(torch.randint(12, ())), 0)
        return (image + 0.5 * torch.randn(12, 12))[None], self.kinds[index]


def build():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(64, 4),
    )


def test(model, loader):
    model.eval()
    right = 0
    with torch.no_grad():
        for images, kinds in loader:
            right += (model(images).argmax(1) == kinds).sum().item()
    return right / len(loader.dataset)


def train(model, loader, optimizer, scaler):
    model.train()
    for images, kinds in loader:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", getattr(torch, args.amp or "bfloat16"), enabled=bool(args.amp)):
            loss = nn.functional.cross_entropy(model(images), kinds)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        scaler.step(optimizer)
        scaler.update()
    return loss.item()


def main():
    torch.manual_seed(0)
    workers = args.workers
    loader = DataLoader(Stripes(256, 0), batch_size=16, shuffle=True, num_workers=workers)
    held_out = DataLoader(Stripes(64, 1), batch_size=64)
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)
    scaler = torch.amp.GradScaler("cpu", enabled=args.amp == "float16")
    for epoch in range(args.epochs):
        loss = train(model, loader, optimizer, scaler)
        scheduler.step()
        print(f"epoch {epoch} loss {loss:.4f} accuracy {test(model, held_out):.3f}")
    args.out.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), args.out / "model.pt")


if __name__ == "__main__":
    main()
