"""A loop by Accelerate: accumulation, clipping, a scheduler, evaluation, and a saved state."""

import argparse
import json
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, get_linear_schedule_with_warmup

parser = argparse.ArgumentParser()
parser.add_argument("world", type=Path)
parser.add_argument("out", type=Path)
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--mixed-precision", default="no")
args = parser.parse_args()


def rows(split):
    lines = (args.world / f"data/prompt-completion/{split}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def collate(batch):
    """Turn rows into tensors: padding and prompts aren't learned."""
    ids, labels = [], []
    for row in batch:
        prompt = tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]
        answer = tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
        answer = [*answer, tokenizer.eos_token_id]
        ids.append(torch.tensor(prompt + answer))
        labels.append(torch.tensor([-100] * len(prompt) + answer))
    pad = torch.nn.utils.rnn.pad_sequence
    input_ids = pad(ids, batch_first=True, padding_value=tokenizer.pad_token_id)
    lengths = torch.tensor([len(one) for one in ids])
    mask = (torch.arange(input_ids.shape[1])[None] < lengths[:, None]).long()
    labels = pad(labels, batch_first=True, padding_value=-100)
    return {"input_ids": input_ids, "attention_mask": mask, "labels": labels}


tokenizer = AutoTokenizer.from_pretrained(args.world / "base")


def main():
    accelerator = Accelerator(
        cpu=True, gradient_accumulation_steps=2, mixed_precision=args.mixed_precision
    )
    set_seed(0)
    model = AutoModelForCausalLM.from_pretrained(args.world / "base")
    train = DataLoader(rows("train"), batch_size=6, shuffle=True, collate_fn=collate)
    test = DataLoader(rows("test"), batch_size=8, collate_fn=collate)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = get_linear_schedule_with_warmup(optimizer, 2, len(train) * args.epochs // 2)
    model, optimizer, train, test, scheduler = accelerator.prepare(
        model, optimizer, train, test, scheduler
    )
    for epoch in range(args.epochs):
        model.train()
        for batch in train:
            with accelerator.accumulate(model):
                loss = model(**batch).loss
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            accelerator.print(f"loss {loss.item():.4f}")
        model.eval()
        losses = []
        for batch in test:
            with torch.no_grad():
                losses.append(accelerator.gather_for_metrics(model(**batch).loss.repeat(8)))
        accelerator.print(f"epoch {epoch} eval {torch.cat(losses).mean().item():.4f}")
    accelerator.wait_for_everyone()
    accelerator.unwrap_model(model).save_pretrained(
        args.out / "final", save_function=accelerator.save
    )
    accelerator.end_training()


if __name__ == "__main__":
    main()
