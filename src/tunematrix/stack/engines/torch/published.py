"""Parameters as transformers holds them in, the same by their names in published checkpoints out.

From release 5 on it stacks the experts of a layer into one tensor a projection, and puts gate and
up projections together: https://huggingface.co/docs/transformers/main/en/weightconverter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from tunematrix.stack.engines.common import Floats

_STACKED = {
    ".experts.gate_up_proj": ("gate_proj", "up_proj"),
    ".experts.down_proj": ("down_proj",),
}
"""How the name of a stacked tensor ends, and which projections each expert has in it, by rows."""


def by_published_name(held: Mapping[str, Floats]) -> dict[str, Floats]:
    """Take stacked experts apart: one (outputs, inputs) each; leave all else as it is."""
    return {name: own for held_as, tensor in held.items() for name, own in _parts(held_as, tensor)}


def _parts(name: str, tensor: Floats) -> Iterator[tuple[str, Floats]]:
    ending = next((end for end in _STACKED if name.endswith(end)), None)
    if ending is None:
        yield name, tensor
        return
    prefix, projections = name.rpartition(".")[0], _STACKED[ending]
    for expert, stacked in enumerate(tensor):
        for projection, own in zip(projections, np.split(stacked, len(projections)), strict=True):
            yield f"{prefix}.{expert}.{projection}.weight", own
