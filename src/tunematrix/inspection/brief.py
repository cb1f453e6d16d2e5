"""The overrides that make a Hydra command line brief: chosen by the keys that its config has.

Two steps, eight samples, batches of two, no worker processes, the CPU, no experiment tracker, and
all output in one folder. A key that the config doesn't have is never added, but for those that
Lightning's trainer takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

OUTPUT = "{output_dir}"
"""Stands for the run's folder in arguments."""

HYDRAS_OWN = f"hydra.run.dir='{OUTPUT}/hydra'"
"""Where Hydra itself writes."""

STEPS = 2
SAMPLES = 8
BATCH = 2

_NAMES: Mapping[str, frozenset[str]] = {
    kind: frozenset(names.split())
    for kind, names in {
        "steps": "max_steps num_steps n_steps steps total_steps train_steps num_train_steps "
        "max_train_steps max_iters max_iterations num_iterations iterations",
        "epochs": "max_epochs num_epochs n_epochs epochs num_train_epochs",
        "samples": "samples num_samples n_samples max_samples train_samples val_samples "
        "test_samples num_train num_val num_test n_train n_val n_test dataset_size train_size "
        "val_size test_size num_train_samples num_val_samples num_test_samples num_examples "
        "num_graphs num_points max_examples",
        "batch": "batch_size train_batch_size val_batch_size test_batch_size eval_batch_size "
        "micro_batch_size per_device_train_batch_size per_device_eval_batch_size",
        "workers": "num_workers n_workers workers dataloader_num_workers",
        "flags": "use_wandb use_tensorboard use_mlflow log_to_wandb wandb_enabled "
        "persistent_workers pin_memory",
    }.items()
}
_OUTPUTS = (
    "output_dir", "out_dir", "output_path", "experiment_dir", "exp_dir", "run_dir", "work_dir",
    "results_dir", "save_dir", "log_dir", "default_root_dir", "checkpoint_dir", "ckpt_dir",
)  # fmt: skip
_TRACKERS = ("WandbLogger", "TensorBoardLogger", "MLFlowLogger", "CometLogger", "NeptuneLogger",
             "ClearMLLogger", "AimLogger", "DVCLiveLogger")  # fmt: skip
_DEVICES = frozenset({"cuda", "gpu", "auto", "mps", "tpu"})


@dataclass(frozen=True)
class Brief:
    """How to call a Hydra command line.

    Attributes:
        overrides: with `{output_dir}` for the run's folder.
        experiment: the folder that the run must make, in the same form.
    """

    overrides: tuple[str, ...]
    experiment: str


def make_brief(values: Mapping[str, Any], followers: frozenset[str]) -> Brief:
    """Choose the overrides for a config.

    Args:
        values: its resolved values.
        followers: dotted keys whose value refers to another key; those follow by themselves.
    """
    leaves = {key: value for key, value in _leaves(values, "") if not key.startswith("hydra.")}
    chosen = dict[str, str]()
    for key, value in leaves.items():
        if key not in followers:
            chosen.update(_setting(key, value))
    for key in _lightning_trainers(values):
        chosen |= {f"++{key}.max_steps": str(STEPS), f"++{key}.accelerator": "cpu",
                   f"++{key}.devices": "1"}  # fmt: skip
        for name in ("max_steps", "accelerator", "devices"):
            chosen.pop(f"{key}.{name}", None)
    overrides = [f"{key}={value}" for key, value in chosen.items()]
    overrides += _without_trackers(values)
    outputs = _outputs(leaves, followers)
    # In quotes: the folder's name may have whatever names of folders have.
    overrides += [f"{key}='{folder}'" for key, folder in outputs.items()]
    overrides.append(HYDRAS_OWN)
    hydra = values.get("hydra")
    if isinstance(hydra, Mapping) and "mode" in hydra:
        overrides.append("hydra.mode=RUN")
    return Brief(tuple(overrides), next(iter(outputs.values()), f"{OUTPUT}/hydra"))


def _setting(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the override of one key; none for most."""
    name = key.rpartition(".")[2]
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if name in _NAMES["steps"] and (is_number or value is None) and _is_training(key):
        yield key, str(STEPS)
    elif name in _NAMES["epochs"] and (is_number or value is None):
        yield key, "1"
    elif name in _NAMES["samples"] and is_number and value > SAMPLES:
        yield key, str(SAMPLES)
    elif name in _NAMES["batch"] and is_number and value > BATCH:
        yield key, str(BATCH)
    elif name in _NAMES["workers"] and is_number:
        yield key, "0"
    elif name in _NAMES["flags"] and value is True:
        yield key, "false"
    elif name == "prefetch_factor" and value is not None:
        yield key, "null"
    else:
        yield from _device(key, name, value)


def _device(key: str, name: str, value: Any) -> Iterator[tuple[str, str]]:
    if name in ("device", "accelerator") and isinstance(value, str):
        if value.partition(":")[0] in _DEVICES:
            yield key, "cpu"
    elif name == "precision" and str(value) in ("16", "16-mixed", "16-true"):
        yield key, "32"
    elif name == "strategy" and isinstance(value, str) and value != "auto":
        yield key, "auto"
    elif name == "report_to" and value not in (None, "none"):
        yield key, "none"
    elif key.endswith("wandb.mode"):
        yield key, "disabled"


def _is_training(key: str) -> bool:
    """Return whether steps are those of training; a diffusion model has other ones."""
    return not key.startswith(("model.", "scheduler.", "noise", "diffusion", "sampler."))


def _leaves(values: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of everything that is no section; lists are left out."""
    for key, value in values.items() if isinstance(values, Mapping) else ():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        elif not isinstance(value, list):
            yield f"{prefix}{key}", value


def _sections(values: Any, prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the dotted key of each section that names a target; in a list, that of the list."""
    if isinstance(values, Mapping):
        if isinstance(values.get("_target_"), str):
            yield prefix.rstrip("."), values
        for key, value in values.items():
            yield from _sections(value, f"{prefix}{key}.")
    elif isinstance(values, list):
        for value in values:
            yield from _sections(value, prefix)


def _lightning_trainers(values: Mapping[str, Any]) -> list[str]:
    return [
        key
        for key, section in _sections(values)
        if key
        and section["_target_"].rpartition(".")[2] == "Trainer"
        and section["_target_"].partition(".")[0] in ("lightning", "pytorch_lightning")
    ]


def _without_trackers(values: Mapping[str, Any]) -> list[str]:
    """Return overrides that leave out what reports to a tracker."""
    keys = [
        key for key, section in _sections(values) if section["_target_"].endswith(_TRACKERS) and key
    ]
    found = []
    for key in dict.fromkeys(keys):
        parent, _, name = key.rpartition(".")
        if name == "logger" and parent:
            found.append(f"{key}=false")  # Lightning's trainer: no logger at all
        elif parent:
            found.append(f"~{key}")
        else:
            found.append(f"{key}=null")
    return found


def _outputs(leaves: Mapping[str, Any], followers: frozenset[str]) -> dict[str, str]:
    """Return the keys that name folders of output, likest first, each with its folder."""
    keys = [
        key
        for key, value in leaves.items()
        if key.rpartition(".")[2] in _OUTPUTS and isinstance(value, str)
    ]
    keys.sort(key=lambda key: (_OUTPUTS.index(key.rpartition(".")[2]), key.count(".")))
    # The first is set even if it is made of others, such as a root and a name.
    wanted = [key for n, key in enumerate(keys) if key not in followers or n == 0]
    wanted = [key for key in wanted if leaves[key] != "???" or key not in followers]
    return {key: f"{OUTPUT}/{key.rpartition('.')[2]}" for key in wanted}
