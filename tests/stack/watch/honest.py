"""Honest runs: what is right, and what is unusual but meant. None of them may be told as wrong."""

from __future__ import annotations

from dataclasses import dataclass

from tests.stack.watch.planted_plain import BUILT, INNER, OWN_ADAM, STEP
from tests.stack.watch.planting import Edit


@dataclass(frozen=True)
class Honest:
    """A run that no check may fail.

    Attributes:
        name: of it; loop: the script's name; edits: of the script; arguments: of the run.
        ranks: processes under torchrun, 0 without it.
    """

    name: str
    loop: str
    arguments: tuple[str, ...] = ()
    edits: tuple[Edit, ...] = ()
    ranks: int = 0


def honest(
    name: str, loop: str, *edits: tuple[str, str], arguments: str = "", ranks: int = 0
) -> Honest:
    """Name a run."""
    both = tuple(Edit(*edit) for edit in edits)
    return Honest(name, loop, tuple(arguments.split()), both, ranks)


RIGHT_ADAM = OWN_ADAM.replace(
    """state["exp_avg_sq"].sqrt() / (1 - b2 ** state["step"])""",
    """(state["exp_avg_sq"] / (1 - b2 ** state["step"])).sqrt()""",
)
AVERAGE = """    average = {k: v.detach().clone() for k, v in model.named_parameters()}
    model.train()
    for step"""
LOOPS = (
    honest("plain", "plain_lm"),
    honest("plain-bf16", "plain_lm", arguments="--bf16"),
    honest("plain-compiled", "plain_lm", arguments="--compile"),
    honest("plain-without-accumulation", "plain_lm", arguments="--accumulation 1"),
    honest("plain-without-dropout", "plain_lm", arguments="--dropout 0"),
    honest(
        "plain-zero-first-rate", "plain_lm",
        ("        return (step + 1) / warmup\n", "        return step / warmup\n"),
    ),
    honest(
        "plain-frozen-on-purpose", "plain_lm",
        ("    matrices =", "    model.blocks[0].requires_grad_(False)\n    matrices ="),
        ("if p.dim() >= 2]", "if p.requires_grad and p.dim() >= 2]"),
        ("if p.dim() < 2]", "if p.requires_grad and p.dim() < 2]"),
    ),
    honest(
        "plain-average-saved", "plain_lm",
        ("    model.train()\n    for step", AVERAGE),
        (STEP, STEP + "        with torch.no_grad():\n"
                      "            for k, v in model.named_parameters():\n"
                      "                average[k].lerp_(v, 0.1)\n"),
        ('{"model": model.state_dict()', '{"model": average'),
    ),
    honest("plain-own-adamw", "plain_lm", ("def main():\n", RIGHT_ADAM), (BUILT, BUILT.replace("torch.optim.", ""))),
    honest(
        "plain-sum-by-tokens", "plain_lm",
        ("            (loss / args.accumulation).backward()\n",
         "            (loss * x.numel()).backward()\n"),
        ("        norm = ", "        for p in model.parameters():\n"
                            "            p.grad /= args.batch * LENGTH * args.accumulation\n"
                            "        norm = "),
    ),
    honest(
        "plain-zeroed-at-the-begin", "plain_lm",
        ("        optimizer.zero_grad()\n", ""),
        (INNER, "        model.zero_grad(set_to_none=False)\n" + INNER),
    ),
    honest(
        "plain-two-optimizers", "plain_lm",
        (BUILT, BUILT.replace("groups", "groups[:1]")
                + "    second = torch.optim.SGD(others, lr=1e-2, momentum=0.9)\n"),
        (STEP + "        optimizer.zero_grad()\n",
         STEP + "        second.step()\n        optimizer.zero_grad()\n        second.zero_grad()\n"),
    ),
    honest(
        "plain-fused", "plain_lm", (BUILT, BUILT.replace("0.95))", "0.95), fused=True)")),
    ),
    honest(
        "plain-skips-outliers", "plain_lm",
        (STEP, "        if step != 3:\n    " + STEP),
    ),
    honest(
        "plain-resumed", "plain_lm",
        ("    model.train()\n    for step", "    torch.save(optimizer.state_dict(), '/dev/null')\n"
         "    optimizer.load_state_dict(optimizer.state_dict())\n"
         "    model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()})\n"
         "    model.train()\n    for step"),
    ),
    honest(
        "plain-without-gradients-for-the-norm", "plain_lm",
        ("    matrices =", "    model.unused = nn.Linear(4, 4)\n    matrices ="),
    ),
    honest(
        "plain-replay", "plain_lm",
        ("        norm = ", "        x, y = get_batch(test, generator)\n"
                            "        (0.5 * net(x, y)[1]).backward()\n        norm = "),
        arguments="--accumulation 1",
    ),
    honest("trainer", "trainer_lm"),
    honest("trainer-checkpointing", "trainer_lm", arguments="--checkpointing"),
    honest("trainer-bf16", "trainer_lm", arguments="--bf16"),
    honest("trainer-smoothing", "trainer_lm", arguments="--smoothing 0.1"),
    honest("trainer-adafactor", "trainer_lm", arguments="--optim adafactor"),
    honest("trainer-accumulating-4", "trainer_lm", arguments="--accumulation 4 --steps 6"),
    honest("sft", "sft"),
    honest("sft-chat", "sft", arguments="--data chat"),
    honest("sft-packed-full", "sft", arguments="--packing --full --data text"),
    honest("sft-quantized", "sft", arguments="--quantized"),
    honest("dpo", "dpo"),
    honest("dpo-full", "dpo", arguments="--full"),
    honest("accelerate", "accelerate_lm", arguments="--epochs 2"),
    honest("accelerate-bf16", "accelerate_lm", arguments="--mixed-precision bf16"),
    honest(
        "accelerate-evaluation-mode", "accelerate_lm", ("        model.train()\n", ""),
    ),
    honest("accelerate-two-ranks", "accelerate_lm", ranks=2),
    honest("lightning", "lightning_lm"),
    honest("lightning-bf16", "lightning_lm", arguments="--precision bf16-mixed"),
    honest("ddp", "ddp", ranks=2),
    honest(
        "ddp-accumulating", "ddp",
        ("            optimizer.zero_grad()\n", ""),
        ("            loss.backward()\n",
         "            with net.no_sync() if turn % 2 == 0 else contextlib.nullcontext():\n"
         "                loss.backward()\n"
         "            turn += 1\n"
         "            if turn % 2:\n"
         "                continue\n"),
        ("            optimizer.step()\n",
         "            optimizer.step()\n            optimizer.zero_grad()\n"),
        ("    for epoch in", "    turn = 0\n    for epoch in"),
        ("import argparse\n", "import argparse\nimport contextlib\n"),
        ranks=2,
    ),
    honest("fsdp2", "fsdp2", ranks=2),
    honest("gan", "gan"),
    honest("distil", "distil"),
    honest("vision", "vision"),
    honest("vision-float16", "vision", arguments="--amp float16"),
    honest("vision-bfloat16", "vision", arguments="--amp bfloat16"),
    honest("vision-without-workers", "vision", arguments="--workers 0"),
    honest(
        "vision-scheduler-per-step", "vision",
        ("        scheduler.step()\n", ""),
        ("        scaler.update()\n", "        scaler.update()\n        scheduler.step()\n"),
        ("optimizer, scaler):", "optimizer, scaler, scheduler):"),
        ("optimizer, scaler)\n", "optimizer, scaler, scheduler)\n"),
        ("CosineAnnealingLR(optimizer, args.epochs)", "OneCycleLR(optimizer, 0.1, args.epochs * 17)"),
    ),
)  # fmt: skip
ODD = {
    "odd_models": (
        "truncated_backpropagation", "gradient_penalty", "two_losses", "policy_gradient", "experts",
        "uncertainty", "contrastive", "fixed_batch", "own_function",
    ),
    "odd_steps": (
        "sharpness_aware", "closure", "own_clipping", "sparse", "own_optimizer", "averaged",
        "rate_search", "best_kept", "frozen_norms", "unfrozen_step_by_step", "left_over", "plateau",
    ),
}  # fmt: skip
"""Loop to its ways, each a function of it."""
HONEST = (
    *LOOPS,
    *(Honest(way.replace("_", "-"), loop, (way,)) for loop, ways in ODD.items() for way in ways),
)
