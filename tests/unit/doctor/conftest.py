from __future__ import annotations

from pathlib import Path

import pytest

from tunematrix.matrix.groups import Groups, read_groups

QUANTIZERS = {
    "fine": "",
    "compiled": "builds_with: {compiler: no-such-c++, tools: [ninja], headers: [Python.h]}",
    "refused": "capabilities: {backend: {one: {reason: it crashes, link: 'https://e.org'}}}",
    "elsewhere": "capabilities: {backend: {other: true}}",
    "lacking": "requires: [no_such_library]\ninstall: pip install it",
}


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    """Config groups with two backends, and quantizers that declare all sorts of things."""
    axes = ("recipe", "quantizer", "backend")
    options = {
        "recipe": {"sft": ""},
        "quantizer": QUANTIZERS,
        "backend": {"one": "description: The first\ninstall: pip install one", "other": ""},
    }
    first = {"recipe": "sft", "quantizer": "fine", "backend": "one"}
    (tmp_path / "conf").mkdir()
    lines = "".join(f"  - {axis}: {first[axis]}\n" for axis in axes)
    numbers = "train: {max_steps: 40}\nmeters: {held_out_rows: 64}\n"
    (tmp_path / "conf/cell.yaml").write_text(f"defaults:\n{lines}  - _self_\n{numbers}")
    for axis in axes:
        (tmp_path / "conf" / axis).mkdir()
        for name, text in options[axis].items():
            (tmp_path / "conf" / axis / f"{name}.yaml").write_text(f"name: {name}\n{text}\n")
    return read_groups([tmp_path / "conf"])
