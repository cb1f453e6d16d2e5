"""transformers' Trainer on padded texts, with its own collator, evaluation and saving."""

import argparse

from datasets import load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
    set_seed,
)

parser = argparse.ArgumentParser()
parser.add_argument("world")
parser.add_argument("out")
parser.add_argument("--steps", type=int, default=8)
parser.add_argument("--accumulation", type=int, default=2)
parser.add_argument("--checkpointing", action="store_true")
parser.add_argument("--bf16", action="store_true")
parser.add_argument("--resume", action="store_true")
parser.add_argument("--optim", default="adamw_torch")
parser.add_argument("--smoothing", type=float, default=0.0)
args = parser.parse_args()


def main():
    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(f"{args.world}/base")
    model = AutoModelForCausalLM.from_pretrained(f"{args.world}/base")
    files = {split: f"{args.world}/data/text/{split}.jsonl" for split in ("train", "test")}
    data = load_dataset("json", data_files=files, cache_dir=f"{args.out}/cache")
    data = data.map(
        lambda rows: tokenizer([text + tokenizer.eos_token for text in rows["text"]]),
        batched=True,
        remove_columns=["text"],
    )
    arguments = TrainingArguments(
        output_dir=args.out,
        max_steps=args.steps,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=args.accumulation,
        gradient_checkpointing=args.checkpointing,
        learning_rate=1e-3,
        weight_decay=0.01,
        warmup_steps=2,
        lr_scheduler_type="cosine",
        label_smoothing_factor=args.smoothing,
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=4,
        save_steps=4,
        optim=args.optim,
        bf16=args.bf16,
        use_cpu=True,
        report_to="none",
        seed=0,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=data["train"],
        eval_dataset=data["test"],
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )
    trainer.train(resume_from_checkpoint=args.resume or None)
    trainer.save_model(f"{args.out}/final")


if __name__ == "__main__":
    main()
