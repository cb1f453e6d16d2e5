"""A LightningModule and Lightning's Trainer: manual about nothing."""

import argparse
import json
from pathlib import Path

import lightning as L
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer

parser = argparse.ArgumentParser()
parser.add_argument("world", type=Path)
parser.add_argument("out", type=Path)
parser.add_argument("--steps", type=int, default=8)
parser.add_argument("--precision", default="32-true")
args = parser.parse_args()
tokenizer = AutoTokenizer.from_pretrained(args.world / "base")


class Tuner(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = AutoModelForCausalLM.from_pretrained(args.world / "base")
        self.model.train()

    def loss_of(self, batch):
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        return self.model(**batch, labels=labels).loss

    def training_step(self, batch, index):
        loss = self.loss_of(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, index):
        self.log("val_loss", self.loss_of(batch), batch_size=8)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=args.steps + 1)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def loader(split, **options):
    lines = (args.world / f"data/text/{split}.jsonl").read_text().splitlines()
    texts = [json.loads(line)["text"] + tokenizer.eos_token for line in lines]

    def collate(rows):
        return dict(tokenizer(rows, return_tensors="pt", padding=True))

    return DataLoader(texts, batch_size=8, collate_fn=collate, **options)


def main():
    L.seed_everything(0)
    trainer = L.Trainer(
        max_steps=args.steps,
        accelerator="cpu",
        precision=args.precision,
        accumulate_grad_batches=2,
        gradient_clip_val=1.0,
        val_check_interval=6,
        log_every_n_steps=1,
        logger=False,
        enable_progress_bar=False,
        default_root_dir=args.out,
    )
    trainer.fit(Tuner(), loader("train", shuffle=True), loader("test"))
    trainer.save_checkpoint(args.out / "final.ckpt")


if __name__ == "__main__":
    main()
