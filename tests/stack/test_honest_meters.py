"""Settings of which nothing is wrong, and under which a meter once said so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from tests.tiny import tiny_configuration
from torch import nn
from transformers import Trainer

from tunematrix.evidence.events import AdapterDropout, Reload
from tunematrix.stack.engines.torch.meters.optimizer import Audit, undecayed
from tunematrix.stack.yardsticks.audit import Formula

if TYPE_CHECKING:
    from tests.stack.conftest import RunSmall


def test_an_adapter_that_has_learned_little_in_half_precision(run_small: RunSmall) -> None:
    """Its part of an output is less than the base's rounding; its factor is found all the same."""
    settings = {"train__learning_rate": 1e-5, "method__implementation__rank": 16}
    ran = run_small("lora", precision="bf16", **settings)
    assert ran.failed == set()
    reload = ran.evidence.one(Reload)
    # Without the autocast that the trainer left behind, both are computed alike.
    assert reload is not None and reload.max_difference == 0


@pytest.mark.parametrize("checkpointing", [True, False])
def test_masks_of_one_row(checkpointing: bool, run_small: RunSmall) -> None:
    """Those of two steps are compared, though each is drawn twice under checkpointing."""
    settings = {"train__batch_size": 1, "train__gradient_checkpointing": checkpointing}
    ran = run_small("lora", method__implementation__dropout=0.3, **settings)
    assert not {"dropout_independent", "adapter_dropout", "dropout_factor"} & ran.failed
    seen = ran.evidence.one(AdapterDropout)
    assert seen is not None and seen.compared > 0 and seen.alike < 0.9 * seen.compared


def test_what_does_not_decay_whatever_it_is_called() -> None:
    """As Trainer has it, which goes by the kind of a module as well."""
    up, named = nn.Linear(4, 4), nn.Linear(4, 4)
    model = nn.ModuleDict({"ln_1": nn.LayerNorm(4), "q_norm": named, "up": up})
    trainer = Trainer.__new__(Trainer)
    decays = set(trainer.get_decay_parameter_names(model))
    left = {name for name, p in model.named_parameters() if id(p) in undecayed(model)}
    assert left == {name for name, _ in model.named_parameters()} - decays


def test_a_gradient_that_decay_cancels() -> None:
    """Adam takes a whole step for what rounding leaves of it, in either direction."""
    option = tiny_configuration("nowhere.run").optimizer
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(1000))
    optimizer = torch.optim.Adam([weight], lr=1e-3, weight_decay=0.1)
    weight.grad = torch.randn(1000)
    weight.grad[:3] = -0.1 * weight.detach()[:3]
    audit = Audit(Formula("adam", option, 0.1), frozenset())
    audit.before(optimizer, 0)
    optimizer.step()
    deviation = audit.deviation()
    assert deviation is not None and deviation < 1e-4
    with torch.no_grad():  # and still sees an element that is off by 1 % of its step
        weight[500] += 1e-5
    worse = audit.deviation()
    assert worse is not None and worse > 5e-3
