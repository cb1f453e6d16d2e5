"""Which loop trains what: TRL's trainers, or a plain one of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from tunematrix.configuration import Configuration
from tunematrix.stack.engines.torch import dpo_trainer, orders, plain_loop, sft_trainer
from tunematrix.stack.engines.torch.methods.common import TorchMethod
from tunematrix.stack.engines.torch.orders import Order
from tunematrix.stack.engines.torch.training import TorchTraining, WriteLine

Loop = Callable[[nn.Module, TorchTraining, WriteLine], Callable[[], object]]
"""Makes ready to train a model; what it returns does it."""

LOOPS: Mapping[str, Loop] = {
    "sft": sft_trainer.prepare,
    "plain": plain_loop.prepare,
    "dpo": dpo_trainer.prepare,
}

ORDERS: Mapping[str, Order] = {"sft": orders.seedable, "plain": orders.shuffled}


def order_of(config: Configuration, method: TorchMethod) -> Order | None:
    """Return the order in which the loop of a method takes rows, where that is known."""
    if config.data.packing:
        return None  # of rows that the packing makes
    if config.train.streaming:
        # How a stream is shared out among processes is left to accelerate.
        return orders.streamed if config.launcher.processes == 1 else None
    return ORDERS.get("plain" if config.launcher.shards else method.loop)


def of(config: Configuration, method: TorchMethod) -> Loop:
    """Return what trains a method in the configured recipe.

    Raises:
        ValueError: preferences are to be learned by a method that brings a loop of its own.
    """
    prefers = config.recipe.prefers
    if prefers and method.loop != "sft":
        message = f"method {config.method.name} has a loop of its own, without DPO"
        raise ValueError(message)
    if config.launcher.shards:
        return LOOPS["plain"]  # accelerate shards no model on a CPU
    return LOOPS["dpo" if prefers else method.loop]
