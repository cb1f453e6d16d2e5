"""Records what engines are held against: the shipped base in, `reference/` out.

    python -m tunematrix.stack.toyworld.make_reference --date 2026-01-31

The truth is computed in float64 by Llama's definition. The adapters are trained and saved by
PEFT and by mlx-lm, so both must be importable; nothing is written where one is missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from datetime import UTC, date, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from safetensors.numpy import save_file
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaConfig, PreTrainedTokenizerBase

from tunematrix.configuration import Configuration
from tunematrix.evidence.log import EventLog
from tunematrix.paths import shipped_configs
from tunematrix.stack.adapters import CONFIG, MLX_TENSORS, PEFT_TENSORS, Format
from tunematrix.stack.engines.common import Engine, Floats
from tunematrix.stack.recipes.data import prepare
from tunematrix.stack.toyworld import llama, models, truth

BACKENDS: dict[Format, str] = {"peft": "cpu", "mlx-lm": "mlx"}
LIBRARIES = ("torch", "transformers", "peft", "trl", "mlx", "mlx_lm")
METHODS = ("lora", "dora")
SETTINGS = ("train.max_steps=6", "method.implementation.rank=2", "meters.held_out_rows=1")


def main() -> None:
    """Record everything, and say how large it is."""
    options = _parse_options()
    if missing := [name for name in LIBRARIES if importlib.util.find_spec(name) is None]:
        sys.exit(
            f"{', '.join(missing)} can't be imported, and adapters of both PEFT and mlx-lm are "
            "recorded: run this where the libraries of cpu and of mlx are (nox -s toyworld)."
        )
    tokenizer = AutoTokenizer.from_pretrained(models.BASE)
    tensors = record_truth(tokenizer)
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        logits = {
            f"{source}-{method}": record_adapter(source, method, made)
            for source in truth.FORMATS
            for method in METHODS
        }
        for name in logits:
            shutil.rmtree(truth.FOLDER / name, ignore_errors=True)
            shutil.copytree(made / name, truth.FOLDER / name)
    save_file(tensors, truth.TENSORS)
    save_file(logits, truth.ADAPTER_LOGITS)
    _write_provenance(options.date)
    files = [file for file in truth.FOLDER.rglob("*") if file.is_file()]
    for file in files:
        file.chmod(0o644)  # safetensors keeps what it writes to its owner
    print(f"{truth.FOLDER}: {sum(file.stat().st_size for file in files) / 1000:.0f} kB")


def record_truth(tokenizer: PreTrainedTokenizerBase) -> dict[str, Floats]:
    """Compute logits, gradients and the trace of losses by definition, in float64."""
    config = LlamaConfig.from_pretrained(models.BASE)
    weights = {n: w.double() for n, w in load_file(models.BASE / "model.safetensors").items()}
    probe = truth.probe(tokenizer)
    with torch.no_grad():
        logits = torch.cat([llama.logits(weights, config, example.ids) for example in probe])
    losses = llama.descend(weights, config, truth.batches(tokenizer), truth.RATE)
    tensors = {"logits": logits.float().numpy(), "losses": np.array(losses)}
    for name, gradient in llama.gradients(weights, config, probe).items():
        tensors[f"sketch.{name}"] = truth.sketch(gradient.numpy())
        tensors[f"norm.{name}"] = np.array(float(gradient.norm()))
    return tensors


def record_adapter(source: Format, method: str, made: Path) -> Floats:
    """Train and save an adapter below `made`; return its engine's own logits."""
    config = _composed(BACKENDS[source], method)
    engine: Engine = import_module(config.backend.engine).Engine(config)
    engine.begin()
    name = f"{source}-{method}"
    base = engine.describe(engine.original())
    model = engine.attach(engine.load(base), base)
    with EventLog(made / f"{name}.jsonl") as events:
        data = prepare(config, engine.tokenizer)
        engine.train(model, base, data, events, made / f"{name}-trainer")
    engine.save(model, made / name)
    _tidy(made / name)
    return engine.logits(model, truth.short_probe(engine.tokenizer))


def _tidy(folder: Path) -> None:
    """Leave what loaders read; take out where the base lay, and the order of a set."""
    for file in folder.iterdir():
        if file.name not in (CONFIG, MLX_TENSORS, PEFT_TENSORS):
            file.unlink()
    file = folder / CONFIG
    config = json.loads(file.read_text("utf-8"))
    if "peft_type" in config:
        config["base_model_name_or_path"] = "toyworld://base"
        config["target_modules"] = sorted(config["target_modules"])
    file.write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def _write_provenance(day: date) -> None:
    provenance = {
        "command": f"python -m {__spec__.name} {' '.join(sys.argv[1:])}".strip(),
        "date": day.isoformat(),
        "base_sha256": truth.sha256(models.BASE),
        "machine": platform.machine(),
        "versions": {name: version(name.replace("_", "-")) for name in (*LIBRARIES, "numpy")},
    }
    truth.PROVENANCE.write_text(json.dumps(provenance, indent=2) + "\n", "utf-8")


def _composed(backend: str, method: str) -> Configuration:
    with initialize_config_dir(str(shipped_configs().resolve()), version_base="1.3"):
        config = compose("cell", [f"backend={backend}", f"method={method}", *SETTINGS])
    plain = cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True))
    return Configuration.model_validate({**plain, "cache_dir": tempfile.gettempdir()})


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--date",
        type=date.fromisoformat,
        default=_build_date(),
        help="recorded in reference.json (SOURCE_DATE_EPOCH, or today)",
    )
    return parser.parse_args()


def _build_date() -> date:
    seconds = float(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    return datetime.fromtimestamp(seconds, UTC).date()


if __name__ == "__main__":
    main()
