from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from tunematrix.errors import BadInput
from tunematrix.versions.asked import AsItIs, ByLock, ByPins, ByPython, OnDay, read_asked


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "requirements.txt").write_text("trl==1.0\n")
    (tmp_path / "python3").write_text("")
    (tmp_path / "python3").chmod(0o755)


def test_each_way() -> None:
    """A day, a lock, a Python, pins, and the environment by its name."""
    assert read_asked("cpu", "cpu") == AsItIs()
    assert read_asked("2025-06-30", "cpu") == OnDay(date(2025, 6, 30))
    assert read_asked("requirements.txt", "cpu") == ByLock(Path("requirements.txt"))
    assert read_asked("python3", "cpu") == ByPython(Path("python3"))
    pins = ByPins({"trl": "1.0", "mlx-lm": "0.32"})
    assert read_asked("trl==1.0, MLX_lm == 0.32", "cpu") == pins


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2025-02-30", "2025-02-30 is no day"),
        ("2999-01-01", "still to come"),
        ("cuda", "there is no file cuda"),
        (".", ". is a folder"),
        ("trl==1.*", "leaves a choice"),
        ("trl==1.0,peft>=2", "leaves a choice"),
        ("trl==1.0,trl==1.1", "trl is pinned twice"),
        ("trl==1.0,", "is no pin"),
        ("== 1.0", "is no pin"),
        ("trl[vllm]==1.0", "has an extra or a marker"),
        ("trl==1.0; python_version<'3'", "has an extra or a marker"),
        ("/dev/null", "/dev/null is no file of text"),
        ("requirement.txt", "there is no file requirement.txt"),
    ],
)
def test_what_names_no_set(text: str, message: str) -> None:
    """Each mistake is said, with the ways that there are."""
    with pytest.raises(BadInput, match=re.escape(message)):
        read_asked(text, "cpu")
