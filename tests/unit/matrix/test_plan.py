from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tunematrix.environments.table import Environment
from tunematrix.errors import BadInput
from tunematrix.matrix.groups import Groups
from tunematrix.matrix.plan import plan
from tunematrix.matrix.select import parse_selection
from tunematrix.paths import shipped_configs
from tunematrix.spec import Spec, load_specs

Load = Callable[..., Spec]
CPU = Environment("cpu", "", ("cpu",))


def test_specs_in_their_order(shipped: Groups, load: Load) -> None:
    """A plan holds the cells of all specs, one spec after the other, and the exclusions."""
    first = load("matrix: {quantizer: [none, bnb-int8], method: [full, lora]}")
    second = load().model_copy(update={"test_id": "b"})
    planned = plan([first, second], shipped, CPU)
    assert [cell.id for cell in planned.cells] == [
        "a[cpu-none-full]",
        "a[cpu-none-lora]",
        "a[cpu-bnb-int8-lora]",
        "b[cpu]",
    ]
    assert [exclusion.cell.id for exclusion in planned.exclusions] == ["a[cpu-bnb-int8-full]"]
    assert planned.environment is CPU


def test_selection_applies_to_exclusions_too(shipped: Groups, load: Load) -> None:
    """What isn't asked for is neither run nor listed as excluded."""
    spec = load("matrix: {quantizer: [none, bnb-int8], method: [full, lora]}")
    lora = plan([spec], shipped, CPU, parse_selection(["method=lora"], shipped))
    assert [cell.id for cell in lora.cells] == ["a[cpu-none-lora]", "a[cpu-bnb-int8-lora]"]
    assert lora.exclusions == ()
    full = plan([spec], shipped, CPU, parse_selection(["method=full"], shipped))
    assert len(full.cells) == len(full.exclusions) == 1


def test_problems_of_all_specs_at_once(shipped: Groups, load: Load) -> None:
    """What the configs don't have is told for every spec, not for the first alone."""
    one = load("matrix: {method: [loar]}")
    two = load("overrides: {train.max_stepz: 1}").model_copy(update={"test_id": "b"})
    with pytest.raises(BadInput, match=r"(?s)^2 problems to correct:.*loar.*max_stepz"):
        plan([one, two], shipped, CPU)


def test_environment_with_an_unknown_backend(shipped: Groups, load: Load) -> None:
    """A backend without a config would silently plan nothing, so it is refused."""
    with pytest.raises(BadInput, match=r"environment x: there is no backend/cpuu\.yaml; did you m"):
        plan([load()], shipped, Environment("x", "", ("cpuu",)))


def test_json(shipped: Groups, load: Load) -> None:
    """The plan as JSON has what a reader needs to know what would run, and what would not."""
    first = load("matrix: {quantizer: [bnb-int8], method: [full, lora]}\nmarkers: [smoke]")
    second = load("overrides: {quantizer: bnb-int8}").model_copy(update={"test_id": "b"})
    shown = json.loads(json.dumps(plan([first, second], shipped, CPU).to_json()))
    assert shown["environment"] == "cpu"
    cell = shown["cells"][0]
    assert cell["id"] == "a[cpu-bnb-int8-lora]"
    assert cell["file"] == "spec.yaml"
    assert cell["axes"]["quantizer"] == "bnb-int8"
    assert cell["overrides"] == {}
    assert cell["markers"] == ["smoke"]
    (exclusion,) = shown["exclusions"]
    assert exclusion["id"] == "a[cpu-bnb-int8-full]"
    assert exclusion["declared_in"] == "quantizer/bnb-int8.yaml"
    assert exclusion["reason"]
    assert shown["repeats"] == [["a[cpu-bnb-int8-lora]", "b[cpu]"]]


def test_shipped_suite(shipped: Groups) -> None:
    """Everything in the shared suite is sound, and no two of its cells run the same."""
    planned = plan(load_specs([shipped_configs() / "specs"]), shipped, CPU)
    assert planned.cells
    assert planned.to_json()["repeats"] == []


def test_no_cells(shipped: Groups) -> None:
    """An empty plan is a plan; whoever runs it decides that nothing tested is an error."""
    assert plan([], shipped, CPU).cells == ()
