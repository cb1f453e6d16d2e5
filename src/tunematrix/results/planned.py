"""What a record takes from the plan: who it is about, and all that the plan decided for it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tunematrix.matrix.cells import Cell
from tunematrix.matrix.relations import Related
from tunematrix.results.record import backend_of
from tunematrix.spec.model import Spec

_DIGITS = 16


def planned_fields(point: Cell | Related) -> dict[str, Any]:
    """Return the fields of a record that follow from a cell or a relation alone."""
    fields: dict[str, Any] = {
        "cell_id": point.id,
        "base_id": point.base_id,
        "seed": point.seed,
        "planted": point.planted,
        "spec_digest": spec_digest(point.spec),
        "axes": dict(point.axes),
        "backend": backend_of(point.axes),
    }
    if isinstance(point, Related):
        return {**fields, "arms": tuple(arm.cell.id for arm in point.arms)}
    return {**fields, "overrides": dict(point.overrides)}


def spec_digest(spec: Spec) -> str:
    """Return what tells a spec from any other that says something else: 16 hexadecimal digits.

    They are the first of the SHA-256 of its canonical JSON: defaults filled in, keys sorted.
    """
    # How many cells are made of a matrix changes nothing in what is claimed of one of them.
    plain = spec.model_dump(mode="json", exclude={"matrix": {"strategy"}})
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:_DIGITS]
