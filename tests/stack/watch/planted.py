"""Silent errors: each an edit of a loop in `loops/`, with the checks that should name it.

What is expected was written down before the first run; of three that are about the share of each
micro-batch, `loss` was added after it, whose message named the cause better than `gradient`. Every
loop still ends with exit code 0, and its loss looks plausible.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """Text that occurs once in a loop, and what stands there instead."""

    old: str
    new: str


@dataclass(frozen=True)
class Planted:
    """A silent error.

    Attributes:
        name: of it, in one word; loop: the script's name; edits: what makes it wrong.
        checks: any of these has to warn or fail, without their prefix.
        kind: what goes wrong, in the words of the page.
        arguments: of the script; ranks: processes under torchrun, 0 without it.
        why_not: why nobody could tell from inside the run; empty where it has to be told.
    """

    name: str
    loop: str
    edits: tuple[Edit, ...]
    checks: tuple[str, ...]
    kind: str
    arguments: tuple[str, ...] = ()
    ranks: int = 0
    why_not: str = ""


STEP = "        optimizer.step()\n"
BACKWARD = "            (loss / args.accumulation).backward()\n"
CLIP = "        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
INNER = "        for _ in range(args.accumulation):\n"
BUILT = "    optimizer = torch.optim.AdamW(groups, lr=2e-3, betas=(0.9, 0.95))\n"
OWN_ADAM = """class AdamW(torch.optim.Optimizer):
    def __init__(self, params, lr, betas, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state, (b1, b2) = self.state[p], group["betas"]
                if not state:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(p)
                    state["exp_avg_sq"] = torch.zeros_like(p)
                state["step"] += 1
                state["exp_avg"].lerp_(p.grad, 1 - b1)
                state["exp_avg_sq"].mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
                root = state["exp_avg_sq"].sqrt() / (1 - b2 ** state["step"])
                mean = state["exp_avg"] / (1 - b1 ** state["step"])
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.addcdiv_(mean, root + 1e-8, value=-group["lr"])


def main():
"""


def plain(
    name: str,
    checks: tuple[str, ...],
    kind: str,
    *edits: tuple[str, str],
    arguments: str = "",
    why_not: str = "",
) -> Planted:
    """Plant something into the plain loop."""
    return edited("plain_lm", name, checks, kind, *edits, arguments=arguments, why_not=why_not)


def edited(
    loop: str,
    name: str,
    checks: tuple[str, ...],
    kind: str,
    *edits: tuple[str, str],
    arguments: str = "",
    ranks: int = 0,
    why_not: str = "",
) -> Planted:
    """Plant something into another loop."""
    both = tuple(Edit(*edit) for edit in edits)
    return Planted(name, loop, both, checks, kind, tuple(arguments.split()), ranks, why_not)


PLAIN = (
    plain(
        "never-zeroed", ("zeroed",), "gradients not zeroed",
        ("        optimizer.zero_grad()\n", ""),
    ),
    plain(
        "zeroed-per-micro-batch", ("zeroed", "gradient"), "gradients zeroed too early",
        ("        optimizer.zero_grad()\n", ""),
        (INNER, INNER + "            optimizer.zero_grad()\n"),
    ),
    plain(
        "zeroed-before-step", ("zeroed", "moved"), "gradients zeroed too early",
        (STEP + "        optimizer.zero_grad()\n", "        optimizer.zero_grad(set_to_none=False)\n" + STEP),
    ),
    plain(
        "not-divided", ("gradient", "loss"), "loss not divided by the accumulation",
        (BACKWARD, "            loss.backward()\n"),
    ),
    plain(
        "last-micro-batch-dropped", ("gradient", "loss"), "the last micro-batch is dropped",
        (INNER, "        for micro in range(args.accumulation):\n"),
        (BACKWARD, "            if micro < args.accumulation - 1:\n    " + BACKWARD),
        arguments="--accumulation 3",
    ),
    plain(
        "clipped-before-backward", ("clipping",), "clipping that never acts",
        (CLIP, ""), (INNER, CLIP + INNER),
    ),
    plain(
        "clips-a-copy", ("clipping",), "clipping that never acts",
        (CLIP, "        import copy\n\n" + CLIP.replace("model.", "copy.deepcopy(model).")),
    ),
    plain(
        "schedule-per-micro-batch", ("schedule",), "a schedule stepped twice",
        ("        scheduler.step()\n", ""), (BACKWARD, BACKWARD + "            scheduler.step()\n"),
    ),
    plain(
        "schedule-never-stepped", ("schedule",), "a schedule never stepped",
        ("        scheduler.step()\n", ""),
    ),
    plain(
        "model-made-again", ("trainable", "moved"), "optimizer built before the model was made again",
        (BUILT, BUILT + "    model = net = GPT()\n"),
    ),
    plain(
        "trains-a-copy", ("trainable", "moved"), "the model that computes is a copy",
        ("    model.train()\n    for step", "    import copy\n\n    net = copy.deepcopy(model).train()\n    for step"),
    ),
    plain(
        "evaluation-leaves-training", ("mode",), "evaluation that leaves training mode",
        ("    model.train()\n    return sum", "    return sum"),
    ),
    plain(
        "evaluates-in-training", ("mode",), "evaluation in training mode", ("    model.eval()\n", ""),
    ),
    plain(
        "blocks-in-evaluation", ("mode",), "dropout off while training",
        ("    model.train()\n    for step", "    model.train()\n    model.blocks.eval()\n    for step"),
    ),
    plain(
        "detached-in-the-middle", ("trainable",), "detach in the middle of the network",
        ("            x = block(x)\n", "            x = block(x.detach())\n"),
    ),
    plain(
        "same-batch", ("batches",), "the same batch every step",
        ("            x, y = get_batch(train, generator)\n",
         "            x, y = get_batch(train, torch.Generator().manual_seed(0))\n"),
    ),
    plain(
        "autocast-elsewhere", ("precision",), "mixed precision that is not",
        ('torch.autocast("cpu"', 'torch.autocast("cuda"'), arguments="--bf16",
    ),
    plain(
        "autocast-too-small", ("precision",), "mixed precision that is not",
        ("                _, loss = net(x, y)\n", "                pass\n            _, loss = net(x, y)\n"),
        arguments="--bf16",
    ),
    plain(
        "own-adam-wrong", ("update",), "a custom AdamW with a wrong bias correction",
        ("def main():\n", OWN_ADAM), (BUILT, BUILT.replace("torch.optim.", "")),
        why_not="it shares no more than a name with PyTorch's",
    ),
    plain(
        "moments-lost", ("update",), "the optimizer's state is lost in each step",
        (STEP, "        optimizer.state.clear()\n" + STEP),
    ),
    plain(
        "decays-twice", ("update",), "weight decay on everything, beside the optimizer's",
        (STEP, "        for p in model.parameters():\n"
               "            p.data.mul_(1 - scheduler.get_last_lr()[0] * 0.1)\n" + STEP),
    ),
    plain(
        "weights-restored", ("moved", "update"), "what was learned is put back after each step",
        (STEP, "        kept = {k: v.clone() for k, v in model.blocks[0].state_dict().items()}\n"
               + STEP + "        model.blocks[0].load_state_dict(kept)\n"),
    ),
    plain(
        "saves-another", ("checkpoint",), "a checkpoint of another model",
        ('{"model": model.state_dict()', '{"model": GPT().state_dict()'),
    ),
    plain(
        "saves-the-start", ("checkpoint",), "a checkpoint of a stale copy",
        ("    model.train()\n    for step",
         "    import copy\n\n    best = copy.deepcopy(model.state_dict())\n    model.train()\n    for step"),
        ('{"model": model.state_dict()', '{"model": best'),
    ),
    plain(
        "targets-not-shifted", ("labels", "loss"), "targets not shifted",
        ("data[i + 1 : i + 1 + LENGTH]", "data[i : i + LENGTH]"),
    ),
    plain(
        "targets-shifted-twice", ("labels", "loss"), "labels shifted twice",
        ("data[i + 1 : i + 1 + LENGTH]", "data[i + 2 : i + 2 + LENGTH]"),
        ("len(data) - LENGTH - 1", "len(data) - LENGTH - 2"),
    ),
    plain(
        "rate-zero", ("learning_rate",), "a learning rate of 0 throughout",
        ("    warmup = 2\n", "    warmup = 2\n    return 0.0\n"),
    ),
    plain(
        "frozen-in-optimizer", ("trainable",), "a frozen layer that should train",
        ("    matrices =", "    model.blocks[0].requires_grad_(False)\n    matrices ="),
    ),
)  # fmt: skip

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
