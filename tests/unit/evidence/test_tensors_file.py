from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tunematrix.errors import BadInput
from tunematrix.evidence.log import EventLog
from tunematrix.evidence.run_dir import RunDir
from tunematrix.evidence.tensors import read_tensors, write_tensors

TENSORS = {
    "gradient/0/model.norm": np.linspace(-1, 1, 7, dtype=np.float32),
    "state/w/step": np.array(3.0),
    "random/torch": np.arange(256, dtype=np.uint8),
    "logits/trained": np.array([[np.nan, np.inf], [-0.0, 1e-45]]),
    "parameter/1/turned": np.arange(12.0).reshape(3, 4).T,
    "parameter/1/part": np.arange(12.0)[::2],
    "parameter/1/none": np.zeros((0, 3)),
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


def test_nothing_was_kept(tmp_path: Path) -> None:
    """There is no file then, and no tensor."""
    with EventLog(RunDir(tmp_path).events):
        pass
    assert not RunDir(tmp_path).tensors.exists()
    assert read_tensors(RunDir(tmp_path).tensors) == {}


def test_a_log_keeps_them_until_its_end(tmp_path: Path) -> None:
    """Also where the recipe raises: what it had kept is there."""
    log = EventLog(RunDir(tmp_path).events)
    log.keep("gradient/0/w", np.ones(3))
    assert not RunDir(tmp_path).tensors.exists()
    log.__exit__(ValueError, ValueError("too late"), None)
    assert list(read_tensors(RunDir(tmp_path).tensors)) == ["gradient/0/w"]
