"""Adapters between PEFT's format and mlx-lm's: a folder of the one in, a folder of the other out.

    python -m tunematrix.stack.adapters SOURCE TARGET

What SOURCE holds decides the direction. LoRA and DoRA, numpy alone. PEFT keeps A as (rank, in)
and B as (out, rank), scaled by alpha / rank; mlx-lm keeps both the other way round and the scale
as it is. Tensors come back from a round trip bit by bit.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tunematrix.errors import BadInput

Format = Literal["peft", "mlx-lm"]
Tensors = Mapping[str, NDArray[np.generic]]

CONFIG = "adapter_config.json"
PEFT_TENSORS, MLX_TENSORS = "adapter_model.safetensors", "adapters.safetensors"
PEFT_BASE, MLX_BASE = "base_model_name_or_path", "model"
"""Entries that name the model below."""
PREFIX = "base_model.model."
PEFT_KINDS = {"lora_A.weight": "a", "lora_B.weight": "b", "lora_magnitude_vector": "m"}
PEFT_EMBEDDING = {"lora_embedding_A": "a", "lora_embedding_B": "b"}
"""Of embeddings, which mlx-lm doesn't adapt."""
MLX_KINDS = {"lora_a": "a", "lora_b": "b", "m": "m"}
FACTORS = ("lora_a", "lora_b")
"""Of each layer, in mlx-lm's words."""
ALL_LAYERS = -1
"""mlx-lm counts layers from the last; one that gets no tensors adds nothing."""

# Settings of PEFT that change what an adapter does, and that mlx-lm has no word for.
ONLY_PEFT = (
    "alora_invocation_tokens",
    "alpha_pattern",
    "arrow_config",
    "fan_in_fan_out",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "monteclora_config",
    "rank_pattern",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
    "velora_config",
)
# These begin with another base than the checkpoint's: https://github.com/huggingface/peft
# subtracts what A and B begin with from its weights.
CHANGES_BASE = ("corda", "lora_ga", "loftq", "olora", "pissa")


@dataclass(frozen=True)
class Adapter:
    """An adapter, whatever its format.

    Attributes:
        rank, scale, dropout: of every layer; the product of A and B is multiplied by `scale`.
        tensors: by module and kind: "a" is (rank, in), "b" is (out, rank), "m" is (out,) and
            makes it DoRA.
        base: folder or name of the model below; None where it isn't named.
    """

    rank: int
    scale: float
    dropout: float
    tensors: Mapping[tuple[str, str], NDArray[np.generic]]
    base: str | None = None

    @property
    def is_dora(self) -> bool:
        """Whether it has magnitudes."""
        return any(kind == "m" for _, kind in self.tensors)

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of what it adapts, in the base's own words."""
        return tuple(sorted({module for module, _ in self.tensors}))


def main() -> None:
    """Convert, and say what was made."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, help="folder of an adapter, of PEFT or of mlx-lm")
    parser.add_argument("target", type=Path, help="folder to make, in the other format")
    options = parser.parse_args()
    try:
        made = convert(options.source, options.target)
    except BadInput as problem:
        sys.exit(str(problem))
    print(f"{options.target}: an adapter as {made} saves it")


def convert(source: Path, target: Path) -> Format:
    """Write the adapter in `source` to `target` in the other format, and return that format.

    Raises:
        BadInput: it can't be read, or the other format can't express it.
    """
    if format_of(source) == "peft":
        _write_mlx(_read_peft(source), target)
        return "mlx-lm"
    _write_peft(_read_mlx(source), target)
    return "peft"


def format_of(folder: Path) -> Format:
    """Tell by its configuration who saved an adapter.

    Raises:
        BadInput: there is none, or it is of neither format.
    """
    config = _config(folder)
    if "peft_type" in config:
        return "peft"
    if "fine_tune_type" in config:
        return "mlx-lm"
    raise _refused(folder, "has neither peft_type nor fine_tune_type", "another tool's file")


def _read_peft(folder: Path) -> Adapter:
    config = _config(folder)
    if config["peft_type"] != "LORA":
        raise _refused(folder, f"is of type {config['peft_type']}", "mlx-lm has LoRA alone")
    if inexpressible := [name for name in ONLY_PEFT if config.get(name)]:
        raise _refused(folder, f"sets {', '.join(inexpressible)}", "mlx-lm has nothing like it")
    if config.get("bias", "none") != "none":
        raise _refused(folder, f"trains biases ({config['bias']})", "mlx-lm has nothing like it")
    start = str(config.get("init_lora_weights"))
    if start.startswith(CHANGES_BASE):
        raise _refused(folder, f"began as {start}", "it belongs to a base that PEFT has changed")
    rank = int(_number(folder, config, "r"))
    root = math.sqrt(rank) if config.get("use_rslora") else rank
    scale = _number(folder, config, "lora_alpha") / root
    tensors = _tensors(folder, PEFT_TENSORS, PEFT_KINDS, PREFIX)
    dropout, base = float(config.get("lora_dropout", 0.0)), config.get(PEFT_BASE)
    return _checked(folder, Adapter(rank, scale, dropout, tensors, base))


def _read_mlx(folder: Path) -> Adapter:
    config = _config(folder)
    if config["fine_tune_type"] not in ("lora", "dora"):
        raise _refused(folder, f"is of type {config['fine_tune_type']}", "it is no adapter")
    settings = config.get("lora_parameters") or {}
    rank = int(_number(folder, settings, "rank"))
    scale = _number(folder, settings, "scale")
    flat = _tensors(folder, MLX_TENSORS, MLX_KINDS, "")
    tensors = {key: np.ascontiguousarray(tensor.T) for key, tensor in flat.items()}
    dropout, base = float(settings.get("dropout", 0.0)), config.get(MLX_BASE)
    return _checked(folder, Adapter(rank, scale, dropout, tensors, base))


def _write_peft(adapter: Adapter, folder: Path) -> None:
    alpha = adapter.scale * adapter.rank
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        PEFT_BASE: adapter.base,
        "inference_mode": True,
        "r": adapter.rank,
        "lora_alpha": int(alpha) if alpha.is_integer() else alpha,
        "lora_dropout": adapter.dropout,
        "use_dora": adapter.is_dora,
        "target_modules": adapter.modules,
    }
    names = {kind: name for name, kind in PEFT_KINDS.items()}
    tensors = {f"{PREFIX}{module}.{names[k]}": t for (module, k), t in adapter.tensors.items()}
    _write(folder, config, PEFT_TENSORS, tensors)


def _write_mlx(adapter: Adapter, folder: Path) -> None:
    in_layer = {re.sub(r"^.*\.layers\.\d+\.", "", module) for module in adapter.modules}
    config = {
        "fine_tune_type": "dora" if adapter.is_dora else "lora",
        "num_layers": ALL_LAYERS,
        "lora_parameters": {
            "rank": adapter.rank,
            "scale": adapter.scale,
            "dropout": adapter.dropout,
            "keys": sorted(in_layer),
        },
        **({} if adapter.base is None else {MLX_BASE: adapter.base}),
    }
    names = {kind: name for name, kind in MLX_KINDS.items()}
    tensors = {
        f"{module}.{names[k]}": np.ascontiguousarray(tensor.T)
        for (module, k), tensor in adapter.tensors.items()
    }
    _write(folder, config, MLX_TENSORS, tensors)


def _config(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG
    try:
        config = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _refused(folder, f"has no readable {CONFIG}: {error}", "the wrong folder") from None
    if not isinstance(config, dict):
        raise _refused(folder, f"has a {CONFIG} that holds no settings", "another tool's file")
    return config


def _number(folder: Path, settings: Mapping[str, Any], name: str) -> float:
    value = settings.get(name)
    if not isinstance(value, int | float):
        raise _refused(folder, f"gives no number for {name} in {CONFIG}", "an older tool's file")
    return float(value)


def _tensors(
    folder: Path, name: str, kinds: Mapping[str, str], prefix: str
) -> dict[tuple[str, str], NDArray[np.generic]]:
    """Read a file of tensors; each name is a prefix, a module, and one of `kinds`."""
    try:
        tensors = load_file(folder / name)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        cause = f"it isn't there, isn't whole, or has a dtype that numpy lacks ({error!r})"
        raise _refused(folder, f"has no readable {name}", cause) from None
    pattern = re.compile(rf"{re.escape(prefix)}(.+)\.({'|'.join(map(re.escape, kinds))})")
    found: dict[tuple[str, str], NDArray[np.generic]] = {}
    for tensor_name, tensor in tensors.items():
        match = pattern.fullmatch(tensor_name)
        if match is None:
            raise _refused(folder, f"holds {tensor_name}", "it adapts more than linear layers")
        found[match[1], kinds[match[2]]] = tensor
    return found


def _checked(folder: Path, adapter: Adapter) -> Adapter:
    """Return the adapter, once each module has its tensors, in shapes that belong together."""
    kinds = ("a", "b", "m") if adapter.is_dora else ("a", "b")
    if not adapter.tensors:
        raise _refused(folder, "holds no tensor", "a run that saved nothing")
    for module in adapter.modules:
        shapes = {k: t.shape for (name, k), t in adapter.tensors.items() if name == module}
        if set(shapes) != {*kinds}:
            raise _refused(folder, f"lacks a tensor of {module}", "an interrupted copy")
        a, b, out = shapes["a"], shapes["b"], shapes["b"][:1]
        fits = len(a) == len(b) == 2 and a[0] == b[1] == adapter.rank
        if not fits or shapes.get("m", out) != out:
            text = f"has shapes in {module} that don't fit rank {adapter.rank}: {shapes}"
            raise _refused(folder, text, "ranks that differ, or experts, which aren't converted")
    return adapter


def _write(folder: Path, config: Mapping[str, Any], name: str, tensors: Tensors) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), folder / name, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def _refused(folder: Path, fault: str, cause: str) -> BadInput:
    return BadInput(
        f"{folder} can't be converted: it {fault}.\nLikely cause: {cause}.\n"
        "Next step: give the folder of a LoRA or DoRA adapter of linear layers, "
        "saved by PEFT or by mlx-lm."
    )


if __name__ == "__main__":
    main()
