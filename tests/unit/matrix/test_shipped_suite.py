"""The suite that ships: large enough, without repeats, and honest about what it leaves out."""

from __future__ import annotations

import pytest

from tunematrix.environments.table import Environment
from tunematrix.matrix.capabilities import is_at_home
from tunematrix.matrix.cells import repeats
from tunematrix.matrix.compose import compose
from tunematrix.matrix.groups import Groups
from tunematrix.matrix.plan import Plan, plan
from tunematrix.paths import shipped_configs
from tunematrix.spec.loader import load_specs


@pytest.fixture(scope="module", params=["cpu", "cuda", "mps", "mlx"])
def suite(shipped: Groups, request: pytest.FixtureRequest) -> Plan:
    """The plan of all shipped specs on one backend; `test_plans.py` holds its exact ids."""
    environment = Environment(request.param, "", (request.param,))
    return plan(load_specs([shipped_configs() / "specs"]), shipped, environment)


def at_home(shipped: Groups, axis: str, suite: Plan) -> set[str]:
    """Options that have anything to do with the plan's backend."""
    options = shipped.axes[axis].values()
    return {one.name for one in options if is_at_home(one.declared, suite.environment.name)}


def test_cells_that_differ_in_what_they_run(suite: Plan) -> None:
    """None is another one under a new name."""
    assert repeats(suite.cells) == ()


def test_each_exclusion_says_why(suite: Plan) -> None:
    """With a reason, a link, and the way in which it fails when it is tried."""
    for exclusion in suite.exclusions:
        assert exclusion.reason, exclusion.cell.id
        assert exclusion.link.startswith("https://"), exclusion.cell.id
        assert exclusion.raises or exclusion.checks, exclusion.cell.id


def test_every_quantizer_composes(suite: Plan, shipped: Groups) -> None:
    """Each one of the backend is used, instantiates something and has a theory."""
    quantizers = {cell.axes["quantizer"]: cell for cell in suite.cells}
    assert set(quantizers) == at_home(shipped, "quantizer", suite)
    for name, cell in quantizers.items():
        quantizer = compose(cell, shipped).quantizer
        assert quantizer.implementation
        assert quantizer.theory is not None
        assert (quantizer.theory.weight_bits is not None) == (name != "none")


def test_every_method_meets_every_quantizer(suite: Plan, shipped: Groups) -> None:
    """Each pair runs or is excluded under LoRA of either kind; nothing is simply absent."""
    planned = {(c.axes["method"], c.axes["quantizer"]) for c in suite.cells}
    for method in {"lora", "custom-lora"} & at_home(shipped, "method", suite):
        for quantizer in at_home(shipped, "quantizer", suite):
            assert (method, quantizer) in planned
