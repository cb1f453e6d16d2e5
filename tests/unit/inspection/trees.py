"""Config folders, right and faulty ones, each as a text: `== path` begins a file."""

from __future__ import annotations

from pathlib import Path

from tests.unit.inspection.faulty_defaults import FAULTY_DEFAULTS
from tests.unit.inspection.faulty_values import FAULTY_VALUES
from tests.unit.inspection.honest_defaults import HONEST_DEFAULTS
from tests.unit.inspection.honest_others import HONEST_OTHERS
from tests.unit.inspection.honest_values import HONEST_VALUES

LIBRARY = """
== src/app/__init__.py
== src/app/parts.py
class Model:
    def __init__(self, dim, hidden=4, *layers, encoder=None, activation="relu"):
        self.dim, self.hidden, self.encoder = dim, hidden, encoder
class Optimizer:
    def __init__(self, params, lr=0.1): self.params = params
class Data:
    def __init__(self, path=".", batch_size=2, **others): self.batch_size = batch_size
def loss(prediction, truth, weight=1.0): return 0.0
class Outer:
    class Inner:
        @classmethod
        def build(cls, size): return cls()
"""
"""The project that the trees' `_target_` names lead into."""

HONEST = {**HONEST_DEFAULTS, **HONEST_VALUES, **HONEST_OTHERS}
"""Trees that are all right."""
FAULTY = {**FAULTY_DEFAULTS, **FAULTY_VALUES}
"""Faulty trees; for each fault the file, the line, and what has to be said of it."""


def lay_out(text: str, folder: Path) -> Path:
    """Write the files of a text below a folder, the library among them."""
    for part in f"{LIBRARY}{text}".split("\n== ")[1:]:
        name, _, content = part.partition("\n")
        file = folder / name.strip()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n" if content else "", encoding="utf-8")
    (folder / "pyproject.toml").write_text('[project]\nname = "app"\nversion = "0"\n')
    return folder
