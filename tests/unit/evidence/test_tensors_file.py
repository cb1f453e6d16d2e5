from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tunematrix.errors import BadInput
from tunematrix.evidence.log import EventLog
from tunematrix.evidence.run_dir import RunDir
from tunematrix.evidence.tensors import TensorKey, read_tensors, write_tensors

key = TensorKey.from_text
TENSORS = {
    key("gradient/0/model.norm"): np.linspace(-1, 1, 7, dtype=np.float32),
    key("state/w/step"): np.array(3.0),
    key("random/torch"): np.arange(256, dtype=np.uint8),
    key("logits/trained"): np.array([[np.nan, np.inf], [-0.0, 1e-45]]),
    key("parameter/1/turned"): np.arange(12.0).reshape(3, 4).T,
    key("parameter/1/part"): np.arange(12.0)[::2],
    key("parameter/1/none"): np.zeros((0, 3)),
}


def test_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    """Bit for bit, in shape and dtype, however they lay in memory."""
    write_tensors(tmp_path / "tensors.safetensors", TENSORS)
    found = read_tensors(tmp_path / "tensors.safetensors")
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype, name
        np.testing.assert_array_equal(found[name], tensor, strict=True)
    assert [path.name for path in tmp_path.iterdir()] == ["tensors.safetensors"]


def test_a_file_that_was_cut_off(tmp_path: Path) -> None:
    """It is refused, wherever the cut is; so is anything else that lies there."""
    path = tmp_path / "tensors.safetensors"
    write_tensors(path, TENSORS)
    whole = path.read_bytes()
    for part in (whole[:-1], whole[:100], whole[:4], b"", b"odd" * 100):
        path.write_bytes(part)
        with pytest.raises(BadInput, match=r"tensors\.safetensors: can't be read .* run the cell"):
            read_tensors(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gradient/10/model.norm", TensorKey("gradient", 10, "model.norm")),
        ("parameter/0/a/b", TensorKey("parameter", 0, "a/b")),
        ("state/model.norm/exp_avg", TensorKey("state", None, "model.norm", "exp_avg")),
        ("state/a/b/step", TensorKey("state", None, "a/b", "step")),
        ("random/torch", TensorKey("random", name="torch")),
        ("logits/auto-peft", TensorKey("logits", name="auto-peft")),
        ("loss/3/", TensorKey("loss", 3)),
    ],
)
def test_keys_have_a_text(text: str, expected: TensorKey) -> None:
    """By which files name their tensors, and messages too."""
    assert TensorKey.from_text(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize("text", ["", "gradient", "gradient/x/w", "gradients/0/w", "w", "/0/w"])
def test_what_is_no_key(text: str, tmp_path: Path) -> None:
    """Something else wrote the file, and it is refused with its name."""
    path = tmp_path / "tensors.safetensors"
    save_file({text: np.ones(3)}, path)
    with pytest.raises(BadInput, match=r"tensors\.safetensors: can't be read .* run the cell"):
        read_tensors(path)


def test_nothing_was_kept(tmp_path: Path) -> None:
    """There is no file then, and no tensor."""
    with EventLog(RunDir(tmp_path).events):
        pass
    assert not RunDir(tmp_path).tensors.exists()
    assert read_tensors(RunDir(tmp_path).tensors) == {}


def test_a_log_keeps_them_until_its_end(tmp_path: Path) -> None:
    """Also where the recipe raises: what it had kept is there."""
    log = EventLog(RunDir(tmp_path).events)
    log.keep(key("gradient/0/w"), np.ones(3))
    assert not RunDir(tmp_path).tensors.exists()
    log.__exit__(ValueError, ValueError("too late"), None)
    assert list(read_tensors(RunDir(tmp_path).tensors)) == [key("gradient/0/w")]
