"""TRL's DPOTrainer: LoRA, with the base model as the reference."""

import argparse

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

parser = argparse.ArgumentParser()
parser.add_argument("world")
parser.add_argument("out")
parser.add_argument("--steps", type=int, default=6)
parser.add_argument("--full", action="store_true")
args = parser.parse_args()


def main():
    model = AutoModelForCausalLM.from_pretrained(f"{args.world}/base", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(f"{args.world}/base")
    data = load_dataset(
        "json", data_files=f"{args.world}/data/dpo/train.jsonl", cache_dir=f"{args.out}/cache"
    )
    config = DPOConfig(
        output_dir=args.out,
        max_steps=args.steps,
        per_device_train_batch_size=4,
        learning_rate=1e-3,
        beta=0.1,
        logging_steps=1,
        save_strategy="no",
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to="none",
    )
    lora = LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = DPOTrainer(
        model=model,
        args=config,
        train_dataset=data["train"],
        processing_class=tokenizer,
        peft_config=None if args.full else lora,
    )
    trainer.train()
    trainer.save_model(f"{args.out}/final")


if __name__ == "__main__":
    main()
