from __future__ import annotations

import re

from tunematrix.matrix.cells import Cell
from tunematrix.matrix.relations import Arm, Related
from tunematrix.results.planned import planned_fields, spec_digest
from tunematrix.spec import Spec

SPEC = Spec(test_id="a", recipe="sft")
AXES = {"backend": "cpu", "method": "lora"}
OVERRIDES = {"train.max_steps": 3, "train.seed": 4}


def test_what_a_cell_says_of_itself() -> None:
    """Overrides and seed as data; the displayed id beside the base id."""
    cell = Cell("a[cpu-lora]", SPEC, AXES, OVERRIDES, seed=4, planted="half")
    assert planned_fields(cell) == {
        "cell_id": "a[cpu-lora]@4!half",
        "base_id": "a[cpu-lora]",
        "seed": 4,
        "planted": "half",
        "spec_digest": spec_digest(SPEC),
        "axes": AXES,
        "backend": "cpu",
        "overrides": OVERRIDES,
    }


def test_what_a_relation_says_of_itself() -> None:
    """Its arms by their ids, and all options of an axis in which they differ."""
    arms = tuple(Arm(name, Cell(f"a[cpu-{name}]", SPEC, AXES, {}), "trained") for name in "xy")
    related = Related("a[cpu]", SPEC, {"backend": "cpu", "method": ("lora", "full")}, arms)
    fields = planned_fields(related)
    assert (fields["cell_id"], fields["backend"]) == ("a[cpu]", "cpu")
    assert fields["axes"]["method"] == ("lora", "full")
    assert fields["arms"] == ("a[cpu-x]", "a[cpu-y]")
    assert "overrides" not in fields


def test_a_spec_has_a_digest() -> None:
    """It is the same however the spec was written, and another as soon as it says another thing."""
    spec = Spec.model_validate({"test_id": "a", "recipe": "sft", "timeout": 60})
    turned = Spec.model_validate({"timeout": 60, "recipe": "sft", "test_id": "a"})
    other = Spec.model_validate({"test_id": "a", "recipe": "sft", "timeout": 61})
    assert spec_digest(spec) == spec_digest(turned) != spec_digest(other)
    assert re.fullmatch("[0-9a-f]{16}", spec_digest(spec))
