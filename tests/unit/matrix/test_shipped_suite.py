"""The suite that ships: large enough, without repeats, and honest about what it leaves out."""

from __future__ import annotations

import pytest

from tunematrix.environments.table import Environment
from tunematrix.matrix.cells import identity, repeats
from tunematrix.matrix.compose import compose
from tunematrix.matrix.groups import Groups
from tunematrix.matrix.plan import Plan, plan
from tunematrix.paths import shipped_configs
from tunematrix.spec.loader import load_specs


@pytest.fixture(scope="module")
def suite(shipped: Groups) -> Plan:
    """The plan of all shipped specs on the CPU."""
    environment = Environment("cpu", "", ("cpu",))
    return plan(load_specs([shipped_configs() / "specs"]), shipped, environment)


def test_sixty_cells_that_differ_in_what_they_run(suite: Plan) -> None:
    """No cell is another one under a new name."""
    assert repeats(suite.cells) == ()
    assert len({identity(cell) for cell in suite.cells}) >= 60


def test_each_exclusion_says_why(suite: Plan) -> None:
    """With a reason, a link, and the way in which it fails when it is tried."""
    for exclusion in suite.exclusions:
        assert exclusion.reason, exclusion.cell.id
        assert exclusion.link.startswith("https://"), exclusion.cell.id
        assert exclusion.raises or exclusion.checks, exclusion.cell.id


def test_every_cell_composes(suite: Plan, shipped: Groups) -> None:
    """Each option that a cell uses instantiates something, and each quantizer has a theory."""
    quantizers = {cell.axes["quantizer"]: cell for cell in suite.cells}
    assert set(quantizers) == set(shipped.axes["quantizer"])
    for name, cell in quantizers.items():
        config = compose(cell, shipped.roots)
        quantizer = config["quantizer"]
        assert isinstance(quantizer, dict)
        assert quantizer["implementation"]
        assert bool(quantizer["theory"]) == (name != "none")


def test_every_method_meets_every_quantizer(suite: Plan, shipped: Groups) -> None:
    """Each pair runs or is excluded under LoRA of either kind; nothing is simply absent."""
    planned = {(c.axes["method"], c.axes["quantizer"]) for c in suite.cells}
    for method in ("lora", "custom-lora"):
        assert {(method, quantizer) for quantizer in shipped.axes["quantizer"]} <= planned
