"""TRL's SFTTrainer: LoRA on prompts with completions."""

import argparse

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

parser = argparse.ArgumentParser()
parser.add_argument("world")
parser.add_argument("out")
parser.add_argument("--steps", type=int, default=8)
parser.add_argument("--data", default="prompt-completion")
parser.add_argument("--packing", action="store_true")
parser.add_argument("--full", action="store_true")
parser.add_argument("--quantized", action="store_true")
parser.add_argument("--accumulation", type=int, default=2)
parser.add_argument("--optim", default="adamw_torch")
args = parser.parse_args()


def load_model():
    extra = {}
    if args.quantized:
        from transformers import BitsAndBytesConfig

        extra["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4"
        )
        extra["device_map"] = "cpu"
    return AutoModelForCausalLM.from_pretrained(f"{args.world}/base", dtype=torch.float32, **extra)


def main():
    model = load_model()
    tokenizer = AutoTokenizer.from_pretrained(f"{args.world}/base")
    folder = f"{args.world}/data/{args.data}"
    files = {split: f"{folder}/{split}.jsonl" for split in ("train", "test")}
    data = load_dataset("json", data_files=files, cache_dir=f"{args.out}/cache")
    config = SFTConfig(
        output_dir=args.out,
        max_steps=args.steps,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=args.accumulation,
        gradient_checkpointing=False,
        learning_rate=1e-3,
        packing=args.packing,
        max_length=128,
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=4,
        save_steps=8,
        optim=args.optim,
        bf16=False,
        use_cpu=True,
        report_to="none",
        seed=0,
    )
    lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=data["train"],
        eval_dataset=data["test"],
        processing_class=tokenizer,
        peft_config=None if args.full else lora,
    )
    trainer.train()
    trainer.save_model(f"{args.out}/final")


if __name__ == "__main__":
    main()
