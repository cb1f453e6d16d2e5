"""What training goes on from: the newest whole checkpoint, or one that a user names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from peft import PeftModel, get_peft_model_state_dict
from torch import nn

from tunematrix.errors import WrongSetting, nearest
from tunematrix.stack.recipes.saved import OWN, TOKENS
from tunematrix.stack.steps.checkpoint_files import (
    ADAPTER,
    MODEL,
    STATE,
    Shapes,
    fault,
    json_of,
    shapes_of,
    step_of,
)
from tunematrix.stack.steps.job import StepJob

ROUTE = ("resume",)
LATEST = "latest"

_REWARD = "rewards/chosen"  # logged by DPO alone
_LIKELY = "likely it was being saved when the run ended"
_NAME = re.compile(r"checkpoint-(\d+)")
_SETTINGS: Mapping[str, str] = {
    "r": "rank",
    "lora_alpha": "alpha",
    "use_rslora": "use_rslora",
    "use_dora": "use_dora",
    "modules_to_save": "modules_to_save",
}
"""PEFT's settings that change what the saved tensors come to, and what users call them."""


@dataclass(frozen=True)
class Trained:
    """What is about to be trained on.

    Attributes:
        base: folder of the base model.
        shapes: those of the tensors that a checkpoint of it holds.
        adapter: settings of its adapter, by PEFT's names; empty where the whole model is trained.
    """

    base: Path
    shapes: Shapes
    adapter: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module) -> Trained:
        """Describe a model that was loaded from a folder; of its adapters, the active one."""
        if isinstance(model, PeftModel):
            name = model.active_adapter
            config = model.peft_config[name].to_dict()
            saved = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
            return cls(
                base=Path(str(config["base_model_name_or_path"])),
                shapes={name: tuple(tensor.shape) for name, tensor in saved.items()},
                adapter={key: config.get(key) for key in _SETTINGS},
            )
        named = list(model.named_parameters(remove_duplicate=False))
        names = Counter(id(tensor) for _, tensor in named)
        # Of the names of a tied tensor, one is saved; which, is the library's affair.
        once = {name: tuple(tensor.shape) for name, tensor in named if names[id(tensor)] == 1}
        return cls(Path(model.name_or_path), once)


def chosen(job: StepJob, model: nn.Module, max_steps: int) -> Path | None:
    """Return the checkpoint that a user asks to go on from; None to begin.

    Args:
        job: the step's; its output_dir is the trainer's.
        model: what is trained, as a trainer holds it. max_steps: at which that ends.

    Raises:
        WrongSetting: there is none, it isn't whole, or it is of another training.
    """
    if not job.resume:
        return None
    folder = find(job.resume, job.output_dir, job.warn)
    check_method(folder, job.name)
    check_fits(folder, Trained.of(model), max_steps)
    return folder


def logged_losses(folder: Path | None) -> tuple[float, ...]:
    """Return the losses that a checkpoint's trainer had logged; none without a checkpoint."""
    history = [] if folder is None else json_of(folder / STATE).get("log_history", [])
    return tuple(float(line["loss"]) for line in history if "loss" in line)


def find(resume: str, output_dir: Path, warn: Callable[[str], None]) -> Path:
    """Find what a user means to go on from.

    Args:
        resume: "latest", a checkpoint's folder, or its name in `output_dir`.
        output_dir: where a trainer saved them.
        warn: is told of a checkpoint that is passed over.

    Raises:
        WrongSetting: there is none that is whole.
    """
    if resume != LATEST:
        return named(resume, output_dir)
    if (found := newest(output_dir, warn)) is not None:
        return found
    torn = [f"{one.name} isn't whole ({fault(one)})" for one in _all(output_dir)]
    text = "; ".join(torn) or f"{_holds(output_dir)}, and no checkpoint"
    raise WrongSetting(
        ROUTE, f"{LATEST}: there is nothing to go on from: {output_dir}: {text}; begin without it"
    )


def newest(output_dir: Path, warn: Callable[[str], None]) -> Path | None:
    """Return the checkpoint with the most steps that is whole; None where there is none.

    Args:
        output_dir: where a trainer saved them, as checkpoint-N.
        warn: is told of each with more steps that isn't whole, and of what is wrong with it.
    """
    torn: list[tuple[Path, str]] = []
    found = None
    for folder in _all(output_dir):
        if not (wrong := fault(folder)):
            found = folder
            break
        torn.append((folder, wrong))
    then = f"going on from {found.name}" if found else "there is none before it"
    for folder, wrong in torn:
        warn(f"{folder} isn't whole: {wrong}; {_LIKELY}; {then}")
    return found


def named(path: str, output_dir: Path) -> Path:
    """Return a checkpoint's folder, given as it is or by its name in `output_dir`.

    Raises:
        WrongSetting: it isn't there, is no checkpoint, or isn't whole.
    """
    given = Path(path).expanduser()
    folder = given if given.is_dir() else output_dir / given
    if not folder.is_dir():
        raise WrongSetting(ROUTE, f"{path} isn't there; {_instead(given.name, output_dir)}")
    if not (folder / STATE).exists() and not _NAME.fullmatch(folder.resolve().name):
        inside = ", ".join(one.name for one in _all(folder))
        advice = f"name one of {inside}, or {LATEST}" if inside else f"it has no {STATE}"
        raise WrongSetting(ROUTE, f"{folder} is no checkpoint of a trainer; {advice}")
    if wrong := fault(folder):
        text = f"{folder} isn't whole: {wrong}; {_LIKELY}"
        raise WrongSetting(ROUTE, f"{text}; {_instead('', output_dir, but=folder)}")
    return folder


def check_method(folder: Path, step: str) -> None:
    """Hold a whole checkpoint's log against what is done: sft or dpo.

    Raises:
        WrongSetting: it was saved by the other one.
    """
    history = json_of(folder / STATE).get("log_history")
    lines = [one for one in history if isinstance(one, dict)] if isinstance(history, list) else []
    saved = "dpo" if any(_REWARD in line for line in lines) else "sft"
    if lines and saved != step:
        text = f"{folder} was saved by {saved}, and this is {step}"
        raise WrongSetting(ROUTE, f"{text}; name a checkpoint of its own, or begin without it")


def check_fits(folder: Path, trained: Trained, max_steps: int) -> int:
    """Hold a whole checkpoint against what is to be trained on.

    Returns:
        The optimizer steps that are done.

    Raises:
        WrongSetting: it is of another model or adapter, or of a longer run.
    """
    for difference in _differences(folder, trained):
        text = f"{folder} doesn't fit what is trained: {difference}"
        raise WrongSetting(ROUTE, f"{text}; name another checkpoint, or begin without it")
    step = step_of(folder)
    if step > max_steps:
        text = f"{folder} is already at step {step}, beyond max_steps {max_steps}"
        raise WrongSetting(ROUTE, f"{text}; raise max_steps to train on")
    return step


def _differences(folder: Path, trained: Trained) -> Iterator[str]:
    adapted = (folder / ADAPTER).is_file()
    if adapted != bool(trained.adapter):
        kinds = ("a whole model", "an adapter")
        yield f"it holds {kinds[adapted]}, and {kinds[not adapted]} is trained"
    elif adapted:
        yield from _of_the_adapter(json_of(folder / ADAPTER), trained)
    else:
        yield from _of_the_model(folder, trained)
    yield from _of_the_tensors(shapes_of(folder), trained.shapes, adapted)


def _of_the_adapter(saved: Mapping[str, object], trained: Trained) -> Iterator[str]:
    base = Path(str(saved.get("base_model_name_or_path")))
    # A base that was moved since is told by its tensors alone.
    if base.exists() and base.resolve() != trained.base.resolve():
        yield f"its base is {base}, and not {trained.base}"
    for key, name in _SETTINGS.items():
        if saved.get(key) != trained.adapter.get(key):
            yield f"its {name} is {saved.get(key)}, and not {trained.adapter.get(key)}"


def _of_the_model(folder: Path, trained: Trained) -> Iterator[str]:
    saved, base = json_of(folder / MODEL), json_of(trained.base / MODEL)
    for key in sorted((saved.keys() & base.keys()) - OWN - set(TOKENS)):
        if saved[key] != base[key]:
            yield f"its {key} is {saved[key]}, and not {base[key]}"


def _of_the_tensors(saved: Shapes, trained: Shapes, adapted: bool) -> Iterator[str]:
    for name in sorted(saved.keys() & trained.keys()):
        if saved[name] != trained[name]:
            yield f"its {name} has shape {saved[name]}, and not {trained[name]}"
    # A trainer leaves what it doesn't find as it is, and says so in its log alone. Of whole models
    # with experts, transformers saves the tensors under other names than those of the model.
    for name in sorted(trained.keys() - saved.keys()):
        renamed = (
            "" if adapted else ", at least not under this name, by which a trainer looks for it"
        )
        yield f"it has no {name}{renamed}"
    # Beside an adapter, PEFT may save layers of the base that are known by other means.
    for name in sorted(saved.keys() - trained.keys()):
        if adapted and "lora_" in name:
            yield f"it has {name}, and what is trained has not"


def _all(output_dir: Path) -> list[Path]:
    """Return folders that are called as checkpoints are, those with the most steps first."""
    if not output_dir.is_dir():
        return []
    found = [(_NAME.fullmatch(one.name), one) for one in output_dir.iterdir() if one.is_dir()]
    steps = [(int(match[1]), one) for match, one in found if match]
    return [one for _, one in sorted(steps, reverse=True)]


def _holds(folder: Path) -> str:
    if not folder.is_dir():
        return "isn't there"
    names = sorted(one.name for one in folder.iterdir())
    return f"holds {', '.join(names[:6])}{' and more' * (len(names) > 6)}" if names else "is empty"


def _instead(name: str, output_dir: Path, but: Path | None = None) -> str:
    there = [one.name for one in _all(output_dir) if but is None or not one.samefile(but)]
    if not there:
        return f"{output_dir} {_holds(output_dir)}"
    close = nearest(name, there) if name else []
    return f"did you mean {' or '.join(close)}?" if close else f"there is {', '.join(there)}"
