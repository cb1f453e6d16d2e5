"""Records what engines are held against: the models of the toy world in, `reference/` out.

    python -m tunematrix.stack.toyworld.make_reference --date 2026-01-31

The truth of each model is computed in float64 by the definition of its architecture. The adapters
are trained and saved by PEFT and by mlx-lm, so both must be importable; nothing is written where
one is missing.
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
from collections.abc import Sequence
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
from transformers import AutoConfig, AutoTokenizer

from tunematrix.configuration import Configuration
from tunematrix.evidence.log import EventLog
from tunematrix.paths import shipped_configs
from tunematrix.stack.adapters import CONFIG, MLX_TENSORS, PEFT_TENSORS, Format
from tunematrix.stack.engines.common import Engine, Floats
from tunematrix.stack.recipes.data import prepare
from tunematrix.stack.toyworld import architectures, definition, models, truth

BACKENDS: dict[Format, str] = {"peft": "cpu", "mlx-lm": "mlx"}
TRUTH_LIBRARIES = ("torch", "transformers", "numpy")
ADAPTER_LIBRARIES = (*TRUTH_LIBRARIES, "peft", "trl", "mlx", "mlx_lm")
METHODS = ("lora", "dora")
MODELS = ("base", *architectures.NAMES)
SETTINGS = ("train.max_steps=6", "method.implementation.rank=2", "meters.held_out_rows=1")


def main() -> None:
    """Record everything, and say how large it is."""
    options = _parse_options()
    libraries = TRUTH_LIBRARIES if options.keep_adapters else ADAPTER_LIBRARIES
    if missing := [name for name in libraries if importlib.util.find_spec(name) is None]:
        sys.exit(
            f"{', '.join(missing)} can't be imported, and adapters of both PEFT and mlx-lm are "
            "recorded: run this where the libraries of cpu and of mlx are (nox -s toyworld)."
        )
    provenance = json.loads(truth.PROVENANCE.read_text("utf-8"))
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        folders = {name: models.resolve(f"toyworld://{name}", made) for name in MODELS}
        for name, folder in folders.items():
            save_file(record_truth(folder), truth.file_of(name))
        digests = {name: truth.sha256(folder) for name, folder in folders.items()}
        origin = _origin(options.date, TRUTH_LIBRARIES)
        provenance["truth"] = {"weights_sha256": digests, **origin}
        if not options.keep_adapters:
            record_adapters(made)
            provenance["adapters"] = _origin(options.date, ADAPTER_LIBRARIES)
    truth.PROVENANCE.write_text(json.dumps(provenance, indent=2) + "\n", "utf-8")
    files = [file for file in truth.FOLDER.rglob("*") if file.is_file()]
    for file in files:
        file.chmod(0o644)  # safetensors keeps what it writes to its owner
    print(f"{truth.FOLDER}: {sum(file.stat().st_size for file in files) / 1000:.0f} kB")


def record_truth(folder: Path) -> dict[str, Floats]:
    """Compute logits, gradients and the trace of losses by definition, in float64."""
    config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    weights = {n: w.double() for n, w in load_file(folder / "model.safetensors").items()}
    rows, batches = truth.gradient_rows(tokenizer), truth.batches(tokenizer)
    probe = truth.probe(tokenizer)
    with torch.no_grad():
        logits = torch.cat([definition.logits(weights, config, example.ids) for example in probe])
    losses = definition.descend(weights, config, batches, truth.RATE)
    tensors = {"logits": logits.float().numpy(), "losses": np.array(losses)}
    for name, gradient in definition.gradients(weights, config, rows).items():
        tensors[f"sketch.{name}"] = truth.sketch(gradient.numpy())
        tensors[f"norm.{name}"] = np.array(float(gradient.norm()))
    return tensors


def record_adapters(made: Path) -> None:
    """Record the adapters of both engines, and put all of them in place once all are made."""
    logits = {
        f"{source}-{method}": record_adapter(source, method, made)
        for source in truth.FORMATS
        for method in METHODS
    }
    for name in logits:
        shutil.rmtree(truth.FOLDER / name, ignore_errors=True)
        shutil.copytree(made / name, truth.FOLDER / name)
    save_file(logits, truth.ADAPTER_LOGITS)


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


def _origin(day: date, libraries: Sequence[str]) -> dict[str, Any]:
    return {
        "command": f"python -m {__spec__.name} {' '.join(sys.argv[1:])}".strip(),
        "date": day.isoformat(),
        "machine": platform.machine(),
        "versions": {name: version(name.replace("_", "-")) for name in libraries},
    }


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
    parser.add_argument(
        "--keep-adapters", action="store_true", help="record the truth alone, and no adapters"
    )
    return parser.parse_args()


def _build_date() -> date:
    seconds = float(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    return datetime.fromtimestamp(seconds, UTC).date()


if __name__ == "__main__":
    main()
