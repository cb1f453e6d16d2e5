"""Checkpoints that aren't whole: each is told, and the one before it is taken."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.unit.stack.saved import adapted, base, never, refusal

from tunematrix.stack.steps.checkpoint_files import fault, shapes_of
from tunematrix.stack.steps.checkpoints import (
    Trained,
    check_fits,
    named,
    newest,
)

ADAPTED = ("trainer_state.json", "adapter_model.safetensors", "adapter_config.json")
WHOLE = ("model.safetensors", "config.json")
BOTH = ("optimizer.pt", "scheduler.pt", "rng_state.pth")


@pytest.mark.parametrize(
    ("kind", "name"),
    [("adapter", name) for name in (*ADAPTED, *BOTH)] + [("model", name) for name in WHOLE],
)
def test_cut_anywhere(trained: dict[str, Path], tmp_path: Path, kind: str, name: str) -> None:
    """Whatever a killed process left of a file, it is told, and the checkpoint before is taken."""
    out = Path(shutil.copytree(trained[kind], tmp_path / "out"))
    file = out / "checkpoint-2" / name
    content = file.read_bytes()
    size = len(content.rstrip())  # without its last line end, JSON is whole
    cuts = {*range(0, size, max(1, size // 24)), 1, 7, 8, 9, 100, size - 2, size - 1}
    assert len(cuts) >= 20
    for length in sorted(cut for cut in cuts if cut < size):
        file.write_bytes(content[:length])
        said: list[str] = []
        assert newest(out, said.append) == out / "checkpoint-1", length
        assert len(said) == 1 and f"checkpoint-2 isn't whole: {name} " in said[0]
        assert said[0].endswith("going on from checkpoint-1")
    file.write_bytes(content)
    assert newest(out, never) == out / "checkpoint-2"
    file.unlink()
    assert newest(out, lambda text: None) == out / "checkpoint-1"
    assert f": {name} isn't there;" in refusal(lambda: named("checkpoint-2", out))


@pytest.mark.parametrize("name", BOTH)
def test_bytes_that_changed(out: Path, name: str) -> None:
    """The optimizer's files have checksums: a changed byte of a tensor or an empty end is told."""
    file = out / "checkpoint-2" / name
    content = file.read_bytes()
    at = content.index(b"data.pkl") + 80
    for changed in (
        content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :],
        content[: len(content) // 2] + b"\0" * (len(content) - len(content) // 2),
        b"\0" * len(content),
        b"",
        b"not a zip",
    ):
        file.write_bytes(changed)
        assert fault(out / "checkpoint-2").startswith(f"{name} is")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("{}", "trainer_state.json names no step"),
        ('{"global_step": 0}', "trainer_state.json names no step"),
        ('{"global_step": true}', "trainer_state.json names no step"),
        ('{"global_step": "2"}', "trainer_state.json names no step"),
        ('{"global_step": 5}', "trainer_state.json is that of step 5"),
        ("[2]", "trainer_state.json isn't whole, or no JSON"),
        ("[" * 100_000, "trainer_state.json isn't whole, or no JSON"),
        ("\xff", "trainer_state.json isn't whole, or no JSON"),
    ],
)
def test_a_state_that_says_something_else(out: Path, state: str, said: str) -> None:
    """It is JSON, or was, and not what a trainer writes at that step."""
    (out / "checkpoint-2" / "trainer_state.json").write_text(state, "latin-1")
    assert fault(out / "checkpoint-2") == said


def test_weights_in_pickle_form(out: Path) -> None:
    """They aren't loaded, and so the checkpoint counts as torn."""
    folder = out / "checkpoint-2"
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert fault(folder) == (
        "adapter_model.safetensors isn't there; weights in pickle form aren't read"
    )


def test_an_optimizer_that_would_run_code(out: Path) -> None:
    """What is unpickled runs; here nothing is."""

    class Trap:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return os.mkdir, (str(out / "sprung"),)

    torch.save(Trap(), out / "checkpoint-2" / "optimizer.pt")
    assert newest(out, never) == out / "checkpoint-2"
    assert not (out / "sprung").exists()
    (out / "sprung").mkdir()
    with pytest.raises(FileExistsError):
        torch.load(out / "checkpoint-2" / "optimizer.pt", weights_only=False)


def test_shards(trained: dict[str, Path], tmp_path: Path) -> None:
    """A model in several files is whole when all of them are."""
    folder = tmp_path / "checkpoint-2"
    shutil.copytree(trained["model"] / "checkpoint-2", folder)
    whole = shapes_of(folder)
    (folder / "model.safetensors").unlink()
    base().save_pretrained(folder, max_shard_size="500KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2 and fault(folder) == "" and shapes_of(folder) == whole
    assert check_fits(folder, Trained.of(base()), 3) == 2
    index = folder / "model.safetensors.index.json"
    content = index.read_text()
    index.write_text(content[:200])
    assert fault(folder) == f"{index.name} isn't whole, or no JSON"
    index.write_text('{"weight_map": {"a": 5}}')
    assert fault(folder) == f"{index.name} doesn't say where the tensors are"
    index.write_text(content.replace("model.norm.weight", "model.norm.other"))
    assert fault(folder).endswith("lacks model.norm.other")
    index.write_text(content)
    shards[1].write_bytes(shards[1].read_bytes()[:-1])
    assert fault(folder).startswith(f"{shards[1].name} isn't whole")
    shards[1].unlink()
    assert fault(folder) == f"{shards[1].name} isn't there"


def test_an_adapter_beside_the_trained_one(trained: dict[str, Path], tmp_path: Path) -> None:
    """As aligning keeps what it began with; it has to be whole too."""
    model = adapted()
    model.add_adapter("ref", model.peft_config["default"])
    folder = Path(shutil.copytree(trained["adapter"] / "checkpoint-2", tmp_path / "checkpoint-2"))
    model.save_pretrained(folder)
    assert fault(folder) == "" and check_fits(folder, Trained.of(model), 3) == 2
    beside = folder / "ref" / "adapter_model.safetensors"
    beside.write_bytes(beside.read_bytes()[:-1])
    assert fault(folder).startswith("ref/adapter_model.safetensors isn't whole")
