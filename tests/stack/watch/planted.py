"""Silent errors: each an edit of a loop in `loops/`, with the checks that should name it.

What is expected was written down before the first run; of three that are about the share of each
micro-batch, `loss` was added after it, whose message named the cause better than `gradient`. Every
loop still ends with exit code 0, and its loss looks plausible.
"""

from __future__ import annotations

from tests.stack.watch.planted_plain import PLAIN
from tests.stack.watch.planting import edited

COLLATE = "        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),\n"
MODEL = '    model = AutoModelForCausalLM.from_pretrained(f"{args.world}/base")\n'
OWN_COLLATE = """    def collate(rows):
        batch = tokenizer.pad(rows, return_tensors="pt")
        batch["labels"] = {labels}
        return batch

    trainer = Trainer(
"""
MADE = "    trainer = Trainer(\n"


def collator(labels: str) -> tuple[tuple[str, str], ...]:
    """Give Trainer a collator with labels of its own."""
    made = (MADE, OWN_COLLATE.format(labels=labels))
    return (COLLATE, "        data_collator=collate,\n"), made


SHIFTED = 'batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100).roll(-1, 1)'
OWN_LOSS = """class Own(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        labels = inputs.pop("labels")
        out = model(**inputs)
        loss = torch.nn.functional.cross_entropy(out.logits.flatten(0, 1), labels.flatten())
        return (loss, out) if return_outputs else loss


def main():
"""
TRAINER = (
    edited(
        "trainer_lm", "padding-learned", ("labels",), "a loss over padding",
        *collator('batch["input_ids"].clone()'),
    ),
    edited(
        "trainer_lm", "labels-shifted-by-hand", ("labels", "loss"), "labels shifted twice",
        *collator(SHIFTED),
    ),
    edited(
        "trainer_lm", "own-loss-without-shift", ("labels", "loss"), "a loss whose labels aren't shifted",
        ("def main():\n", OWN_LOSS), (MADE, MADE.replace("Trainer(", "Own(")),
        ("import argparse\n", "import argparse\n\nimport torch\n"),
    ),
    edited(
        "trainer_lm", "trainer-of-a-copy", ("trainable", "moved"), "optimizer built for another model",
        ("        train_dataset=data", "        optimizers=(torch.optim.AdamW(copy.deepcopy(model).parameters()), None),\n"
                                  "        train_dataset=data"),
        ("import argparse\n", "import argparse\nimport copy\n\nimport torch\n"),
    ),
    edited(
        "trainer_lm", "tie-broken", ("trainable", "tied", "checkpoint"), "tied weights broken",
        (MODEL, MODEL + "    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())\n"),
        ("import argparse\n", "import argparse\n\nimport torch\n"),
    ),
    edited(
        "trainer_lm", "mask-forgotten", ("labels", "batches"), "padding is attended to and learned",
        *collator('batch.pop("attention_mask") * 0 + batch["input_ids"]'),
    ),
)  # fmt: skip

TRAIN = "    trainer.train()\n"
CALLBACK = """    from transformers import TrainerCallback

    class Touch(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            for name, weight in model.named_parameters():
                if "layers.1" in name and not weight.requires_grad:
                    weight.data.mul_(0.999)

    trainer.add_callback(Touch())
"""
SFT = (
    edited(
        "sft", "adapter-not-in-optimizer", ("trainable", "moved"), "LoRA attached but not in the optimizer",
        ("        args=config,\n", "        args=config,\n        optimizers=(torch.optim.AdamW(model.parameters(), lr=1e-3), None),\n"),
    ),
    edited(
        "sft", "b-frozen", ("moved", "trainable"), "LoRA whose B never trains",
        (TRAIN, "    for name, weight in trainer.model.named_parameters():\n"
                "        if 'lora_B' in name:\n"
                "            weight.requires_grad_(False)\n" + TRAIN),
    ),
    edited(
        "sft", "base-touched", ("frozen",), "frozen weights that change", (TRAIN, CALLBACK + TRAIN),
    ),
    edited(
        "sft", "adapter-not-saved", ("checkpoint",), "an adapter saved as it was at the start",
        ('    trainer.train()\n    trainer.save_model(f"{args.out}/final")\n',
         "    start = {k: v.clone() for k, v in trainer.model.state_dict().items()}\n"
         "    trainer.train()\n"
         '    trainer.model.save_pretrained(f"{args.out}/final", state_dict=start)\n'),
    ),
    edited(
        "sft", "one-adapter-layer-detached", ("trainable", "moved"), "one layer's adapters get no gradient",
        (TRAIN, "    trainer.model.base_model.model.model.layers[0].register_forward_hook(\n"
                "        lambda module, inputs, output: output.detach()\n    )\n" + TRAIN),
    ),
)  # fmt: skip

PREPARED = """    model, optimizer, train, test, scheduler = accelerator.prepare(
        model, optimizer, train, test, scheduler
    )
"""
ACCELERATED_CLIP = """                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
"""
ACCELERATE = (
    edited(
        "accelerate_lm", "scheduler-not-prepared", ("schedule",), "a schedule stepped twice",
        (PREPARED, "    model, optimizer, train, test = accelerator.prepare(model, optimizer, train, test)\n"),
    ),
    edited(
        "accelerate_lm", "clipped-after-step", ("clipping",), "clipping that never acts",
        (ACCELERATED_CLIP, ""),
        ("                scheduler.step()\n",
         ACCELERATED_CLIP.replace("1.0", "0.01") + "                scheduler.step()\n"),
    ),
    edited(
        "accelerate_lm", "padding-label-zero", ("labels",), "a loss over padding",
        ("padding_value=-100)", "padding_value=tokenizer.pad_token_id)"),
    ),
    edited(
        "accelerate_lm", "prompts-shifted", ("labels", "loss"), "labels one place too far",
        ("torch.tensor([-100] * len(prompt) + answer)", "torch.tensor([-100] * (len(prompt) - 1) + answer + [-100])"),
    ),
    edited(
        "accelerate_lm", "steps-every-micro-batch", ("gradient", "zeroed", "loss"), "an optimizer past Accelerate's",
        (PREPARED, PREPARED + "    optimizer = optimizer.optimizer\n"),
    ),
)  # fmt: skip

LIGHTNING = (
    edited(
        "lightning_lm", "schedule-per-epoch", ("schedule",), "a schedule never stepped",
        ('{"scheduler": scheduler, "interval": "step"}', '{"scheduler": scheduler}'),
    ),
    edited(
        "lightning_lm", "part-of-the-model", ("trainable",), "weights in no optimizer",
        ("AdamW(self.parameters()", "AdamW(self.model.model.layers.parameters()"),
    ),
    edited(
        "lightning_lm", "lightning-padding", ("labels",), "a loss over padding",
        ('        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)\n',
         '        labels = batch["input_ids"]\n'),
    ),
)  # fmt: skip

SAMPLER = "    sampler = DistributedSampler(data)\n"
DDP = (
    edited(
        "ddp", "same-rows", ("batches", "ranks"), "ranks read the same rows",
        (SAMPLER, "    sampler = torch.utils.data.SequentialSampler(data)\n"),
        ("        sampler.set_epoch(epoch)\n", ""), ranks=2,
    ),
    edited(
        "ddp", "past-ddp", ("ranks",), "gradients not averaged", ("logits = net(", "logits = model("), ranks=2,
    ),
    edited(
        "ddp", "clips-one-rank", ("ranks",), "weights that diverge between ranks",
        ("            nn.utils.clip", "            if rank == 0:\n                nn.utils.clip"),
        ("parameters(), 1.0)", "parameters(), 0.05)"), ranks=2,
    ),
    edited(
        "ddp", "norm-diverges", ("ranks",), "a norm's weights diverge between ranks",
        ("            optimizer.step()\n",
         "            optimizer.step()\n            if rank == 1:\n                model.norm.weight.data.mul_(0.999)\n"),
        ranks=2,
    ),
    edited(
        "ddp", "never-synchronised", ("ranks",), "gradients not averaged",
        ("            loss.backward()\n", "            with net.no_sync():\n                loss.backward()\n"),
        ("            logits = net(batch[:, :-1])\n",
         "            with net.no_sync():\n                logits = net(batch[:, :-1])\n"),
        ranks=2,
    ),
    edited(
        "fsdp2", "root-not-sharded", ("ranks",), "weights that diverge between ranks",
        ("    fully_shard(model, mesh=mesh)\n", ""), ranks=2,
    ),
)  # fmt: skip

FLOAT16 = "--amp float16"
VISION = (
    edited(
        "vision", "workers-alike", ("batches",), "all workers of a loader have one seed",
        ("num_workers=workers)", "num_workers=workers, worker_init_fn=lambda _: torch.manual_seed(0))"),
    ),
    edited(
        "vision", "not-unscaled", ("precision", "clipping"), "unscale forgotten before clipping",
        ("        scaler.unscale_(optimizer)\n", ""), arguments=FLOAT16,
    ),
    edited(
        "vision", "not-scaled", ("precision",), "a scaler that scales nothing",
        ("scaler.scale(loss).backward()", "scaler.scale(loss); loss.backward()"), arguments=FLOAT16,
    ),
    edited(
        "vision", "training-left", ("mode",), "evaluation that leaves training mode",
        ("    model.train()\n", ""), ("    model = build()\n", "    model = build().train()\n"),
    ),
    edited(
        "vision", "tests-in-training", ("mode",), "evaluation in training mode",
        ("    model.eval()\n", ""), why_not="one such pass is seen, and may be meant",
    ),
    edited(
        "vision", "scheduler-of-another", ("schedule", "learning_rate"), "a scheduler of an optimizer that is gone",
        ("        loss = train(model, loader",
         "        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)\n"
         "        loss = train(model, loader"),
    ),
)  # fmt: skip

OTHERS = (
    edited(
        "gan", "wrong-network", ("trainable", "moved"), "an optimizer of the wrong network",
        ("opt_g = torch.optim.Adam(G.", "opt_g = torch.optim.Adam(D."),
    ),
    edited(
        "gan", "generator-detached", ("moved", "trainable"), "a network that gets no gradient",
        ("loss_g = bce(D(fake), ones)", "loss_g = bce(D(fake.detach()), ones)"),
    ),
    edited(
        "gan", "critic-not-zeroed", ("zeroed",), "gradients not zeroed", ("    opt_d.zero_grad()\n", ""),
    ),
    edited(
        "distil", "clips-the-teacher", ("clipping",), "clipping that never acts",
        ("    optimizer.step()\n", "    torch.nn.utils.clip_grad_norm_(teacher.parameters(), 0.1)\n    optimizer.step()\n"),
    ),
    edited(
        "distil", "teacher-drifts", ("frozen",), "frozen weights that change",
        ("    print(f", "    for a, b in zip(teacher.model.norm.parameters(), student.model.norm.parameters()):\n"
                       "        a.mul_(0.99)\n    print(f"),
        why_not="a teacher that follows the student by a moving average changes like this",
    ),
    edited(
        "dpo", "dpo-adapter-unseen", ("trainable", "moved"), "LoRA attached but not in the optimizer",
        ("        args=config,\n", "        args=config,\n        optimizers=(torch.optim.AdamW(model.parameters(), lr=1e-3), None),\n"),
    ),
)  # fmt: skip

PLANTED = (*PLAIN, *TRAINER, *SFT, *ACCELERATE, *LIGHTNING, *DDP, *VISION, *OTHERS)
