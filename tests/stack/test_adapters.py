"""Converting adapters: exact both ways, and refused where the other format has no word for it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tunematrix.errors import BadInput
from tunematrix.stack import adapters
from tunematrix.stack.adapters import CONFIG, MLX_TENSORS, PEFT_TENSORS, Format
from tunematrix.stack.toyworld import truth

MODULE = "model.layers.0.self_attn.q_proj"
PEFT_MODULE = f"base_model.model.{MODULE}"
FILES = {"peft": PEFT_TENSORS, "mlx-lm": MLX_TENSORS}

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def copied(tmp_path: Path) -> Callable[..., Path]:
    """Copy a recorded adapter, and change its settings or its tensors."""

    def copy(name: str, settings: Edit | None = None, tensors: Edit | None = None) -> Path:
        folder = tmp_path / name
        shutil.copytree(truth.FOLDER / name, folder)
        if settings is not None:
            config = json.loads((folder / CONFIG).read_text("utf-8"))
            settings(config)
            (folder / CONFIG).write_text(json.dumps(config), "utf-8")
        if tensors is not None:
            file = folder / FILES[adapters.format_of(folder)]
            found = load_file(file)
            tensors(found)
            save_file(found, file)
        return folder

    return copy


@pytest.mark.parametrize("method", ["lora", "dora"])
@pytest.mark.parametrize("source", ["peft", "mlx-lm"])
def test_round_trip_is_exact(tmp_path: Path, source: Format, method: str) -> None:
    """There and back, every tensor is the same bit by bit, and so is what scales it."""
    folder = truth.FOLDER / f"{source}-{method}"
    other = adapters.convert(folder, tmp_path / "other")
    assert {source, other} == {"peft", "mlx-lm"}
    assert adapters.convert(tmp_path / "other", tmp_path / "back") == source
    before, after = (load_file(f / FILES[source]) for f in (folder, tmp_path / "back"))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype
        assert np.array_equal(tensor, after[name]), name
    was, now = (json.loads((f / CONFIG).read_text("utf-8")) for f in (folder, tmp_path / "back"))
    if source == "peft":
        kept = ("r", "lora_alpha", "lora_dropout", "use_dora")
        assert {name: was[name] for name in kept} == {name: now[name] for name in kept}
    else:
        assert was["fine_tune_type"] == now["fine_tune_type"]
        scaling = ("rank", "scale", "dropout")
        assert [was["lora_parameters"][n] for n in scaling] == [
            now["lora_parameters"][n] for n in scaling
        ]


def test_what_is_written_for_mlx(tmp_path: Path) -> None:
    """Each matrix the other way round, alpha over the rank, and names within a layer."""
    adapters.convert(truth.FOLDER / "peft-lora", tmp_path)
    source = load_file(truth.FOLDER / "peft-lora" / PEFT_TENSORS)
    tensors = load_file(tmp_path / MLX_TENSORS)
    assert np.array_equal(tensors[f"{MODULE}.lora_a"], source[f"{PEFT_MODULE}.lora_A.weight"].T)
    assert np.array_equal(tensors[f"{MODULE}.lora_b"], source[f"{PEFT_MODULE}.lora_B.weight"].T)
    config = json.loads((tmp_path / CONFIG).read_text("utf-8"))
    assert config["lora_parameters"]["scale"] == 8.0
    assert "self_attn.q_proj" in config["lora_parameters"]["keys"]


def test_rank_stabilised_scale(copied: Callable[..., Path], tmp_path: Path) -> None:
    """PEFT divides alpha by the root of the rank then; mlx-lm gets the quotient."""
    source = copied("peft-lora", lambda c: c.update(use_rslora=True, r=2, lora_alpha=16))
    adapters.convert(source, tmp_path / "made")
    config = json.loads((tmp_path / "made" / CONFIG).read_text("utf-8"))
    assert config["lora_parameters"]["scale"] == pytest.approx(16 / 2**0.5)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_dtypes_are_kept(copied: Callable[..., Path], tmp_path: Path, dtype: type) -> None:
    """Nothing is converted that need not be."""

    def convert(tensors: dict[str, Any]) -> None:
        tensors.update({name: tensor.astype(dtype) for name, tensor in tensors.items()})

    adapters.convert(copied("mlx-lm-dora", tensors=convert), tmp_path / "made")
    assert {t.dtype for t in load_file(tmp_path / "made" / PEFT_TENSORS).values()} == {
        np.dtype(dtype)
    }


def _without(name: str) -> Edit:
    return lambda entries: entries.pop(name)


def _with(**entries: object) -> Edit:
    return lambda found: found.update(entries)


REFUSED: dict[str, tuple[str, Edit | None, Edit | None, str]] = {
    "modules to save": ("peft-lora", _with(modules_to_save=["lm_head"]), None, "sets modules_to_s"),
    "ranks by layer": ("peft-lora", _with(rank_pattern={"q_proj": 4}), None, "sets rank_pattern"),
    "alphas by layer": ("peft-lora", _with(alpha_pattern={"q": 4}), None, "sets alpha_pattern"),
    "biases": ("peft-lora", _with(bias="lora_only"), None, r"trains biases \(lora_only\)"),
    "other start": ("peft-lora", _with(init_lora_weights="pissa_niter_4"), None, "began as pissa"),
    "other method": ("peft-lora", _with(peft_type="IA3"), None, "is of type IA3"),
    "whole model": ("mlx-lm-lora", _with(fine_tune_type="full"), None, "is of type full"),
    "no rank": ("peft-lora", _without("r"), None, "gives no number for r in"),
    "no scale": ("mlx-lm-lora", _with(lora_parameters={"rank": 2}), None, "no number for scale"),
    "no settings": ("mlx-lm-lora", _without("lora_parameters"), None, "no number for rank"),
    "neither format": ("mlx-lm-lora", _without("fine_tune_type"), None, "has neither"),
    "lost tensor": (
        "mlx-lm-lora",
        None,
        _without(f"{MODULE}.lora_b"),
        f"lacks a tensor of {MODULE}",
    ),
    "lost magnitude": ("mlx-lm-dora", None, _without(f"{MODULE}.m"), f"lacks a tensor of {MODULE}"),
    "other rank": ("mlx-lm-lora", lambda c: c["lora_parameters"].update(rank=4), None, "rank 4"),
    "embedding": (
        "peft-lora",
        None,
        _with(**{"base_model.model.model.embed_tokens.lora_embedding_A": np.zeros((2, 256))}),
        "lora_embedding_A",
    ),
    "magnitude's shape": ("mlx-lm-dora", None, _with(**{f"{MODULE}.m": np.zeros(3)}), r"\(3,\)"),
    "experts": (
        "mlx-lm-lora",
        None,
        _with(**{f"{MODULE}.lora_a": np.zeros((4, 128, 2))}),
        "don't fit rank 2",
    ),
    "nothing": ("mlx-lm-lora", None, lambda tensors: tensors.clear(), "holds no tensor"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_expressed(copied: Callable[..., Path], tmp_path: Path, case: str) -> None:
    """The text says which folder, what is wrong with it, why, and what to do; nothing is made."""
    name, settings, tensors, fault = REFUSED[case]
    folder = copied(name, settings, tensors)
    with pytest.raises(BadInput, match=fault) as caught:
        adapters.convert(folder, tmp_path / "made")
    assert str(folder) in str(caught.value)
    assert "Likely cause: " in str(caught.value) and "Next step: " in str(caught.value)
    assert not (tmp_path / "made").exists()


def test_unreadable_folders(tmp_path: Path, copied: Callable[..., Path]) -> None:
    """No folder, no settings, no tensors, and tensors that are cut off."""
    for text in (None, "{", "[]"):
        if text is not None:
            (tmp_path / CONFIG).write_text(text, "utf-8")
        with pytest.raises(BadInput, match=CONFIG):
            adapters.convert(tmp_path, tmp_path / "made")
    folder = copied("peft-lora")
    whole = (folder / PEFT_TENSORS).read_bytes()
    (folder / PEFT_TENSORS).write_bytes(whole[:100])
    with pytest.raises(BadInput, match="has no readable adapter_model"):
        adapters.convert(folder, tmp_path / "made")
    (folder / PEFT_TENSORS).unlink()
    with pytest.raises(BadInput, match="has no readable adapter_model"):
        adapters.convert(folder, tmp_path / "made")


def test_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what it made, or why it can't."""
    made = tmp_path / "made"
    command = ["adapters", str(truth.FOLDER / "mlx-lm-lora"), str(made)]
    monkeypatch.setattr(sys, "argv", command)
    adapters.main()
    assert capsys.readouterr().out == f"{made}: an adapter as peft saves it\n"
    monkeypatch.setattr(sys, "argv", ["adapters", str(tmp_path), str(made)])
    with pytest.raises(SystemExit, match="can't be converted"):
        adapters.main()
