"""The models and their data."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Denoiser(lightning.LightningModule):
    """Takes noise off points; `width` of its hidden layer, `noise` in standard deviations."""

    def __init__(self, size: int, width: int, noise: float, learning_rate: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(nn.Linear(size, width), nn.ReLU(), nn.Linear(width, size))

    def forward(self, points: Tensor) -> Tensor:
        """Return points of the same shape, (points, size)."""
        return self.layers(points)

    def training_step(self, batch: tuple[Tensor], index: int) -> Tensor:
        """Return the mean squared error of one batch."""
        (points,) = batch
        noisy = points + self.hparams.noise * torch.randn_like(points)
        loss = nn.functional.mse_loss(self(noisy), points)
        self.log("train/mse_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)


class Points(lightning.LightningDataModule):
    """Points on a circle in `size` dimensions, `samples` of them."""

    def __init__(self, size: int, samples: int, batch_size: int, workers: int) -> None:
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the points in an order that is drawn anew in each epoch."""
        settings = self.hparams
        angles = torch.rand(settings.samples, 1) * 6.2832
        points = torch.sin(angles + torch.arange(settings.size))
        return DataLoader(
            TensorDataset(points), settings.batch_size, shuffle=True, num_workers=settings.workers
        )
