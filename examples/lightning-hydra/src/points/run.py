"""The command lines: everything is made by Hydra from the configuration."""

from __future__ import annotations

from pathlib import Path

import hydra
import lightning
from hydra.utils import instantiate
from omegaconf import DictConfig


def train(config: DictConfig) -> None:
    """Train what a configuration describes, and save it in its output folder."""
    lightning.seed_everything(config.seed)
    folder = Path(config.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    trainer = instantiate(config.trainer)
    trainer.fit(instantiate(config.model), instantiate(config.data))
    trainer.save_checkpoint(folder / "last.ckpt")


@hydra.main(version_base="1.3", config_path="conf", config_name="denoise")
def denoise(config: DictConfig) -> None:
    """Train a denoiser."""
    train(config)


@hydra.main(version_base="1.3", config_path="conf", config_name="autoencode")
def autoencode(config: DictConfig) -> None:
    """Train without noise."""
    train(config)


if __name__ == "__main__":
    denoise()
