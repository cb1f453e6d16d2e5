"""Silent errors in the plain loop."""

from __future__ import annotations

from tests.stack.watch.planting import Planted, edited

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
