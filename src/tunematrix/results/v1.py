"""Records of schema 1 → the fields of schema 2, as far as they can be known.

Schema 1 had seed, planted difference and the options in which arms differ in texts alone. Here,
and nowhere else, those texts are taken apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tunematrix.results.record import SCHEMA_VERSION, backend_of

_ID = re.compile(r"(?P<base>[^@!]+)(@(?P<seed>\d{1,9}))?(!(?P<planted>\w+))?")


def upgraded(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of a record of schema 1 as data of the present schema.

    Digest and overrides weren't recorded, and stay empty. What is no record of schema 1 comes
    back malformed, for validation to refuse.
    """
    axes, cell_id = data.get("axes"), data.get("cell_id")
    record = _parts(cell_id) if isinstance(cell_id, str) else {}
    record |= {**data, "schema_version": SCHEMA_VERSION}
    if isinstance(axes, Mapping) and all(isinstance(option, str) for option in axes.values()):
        record["axes"] = {axis: _option(option) for axis, option in axes.items()}
        record.setdefault("backend", backend_of(axes))
    return record


def _option(text: str) -> str | tuple[str, ...]:
    options = tuple(text.split("|"))
    return text if len(options) == 1 else options


def _parts(cell_id: str) -> dict[str, Any]:
    match = _ID.fullmatch(cell_id)
    if match is None:
        return {"base_id": cell_id}
    seed = match["seed"]
    return {
        "base_id": match["base"],
        "seed": None if seed is None else int(seed),
        "planted": match["planted"] or "",
    }
