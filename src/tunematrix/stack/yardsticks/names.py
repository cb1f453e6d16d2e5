"""Names of trained parameters as relations compare them: an engine's own → those of the bare model.

An adapter's tensor is named after the layer that it adapts, whoever wrapped it: `….q_proj.lora_A`
is (rank, in) and `….q_proj.lora_B` (out, rank).
"""

from __future__ import annotations

PREFIX = "base_model.model."
WRAPPERS = (".default", ".modules_to_save")
ADAPTER = ".lora_"


def canonical(name: str) -> str:
    """Strip what PEFT puts around a parameter's name; other names stay as they are."""
    bare = name.removeprefix(PREFIX)
    for wrapper in WRAPPERS:
        bare = bare.replace(f"{wrapper}.", ".").removesuffix(wrapper)
    return bare.removesuffix(".weight") if ADAPTER in bare else bare
