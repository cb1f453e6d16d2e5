"""Names are worth something only while each of them means one thing."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import tunematrix

SOURCE = Path(tunematrix.__file__).parent


def test_no_class_has_the_name_of_another() -> None:
    """Whoever reads a class's name knows which one is meant, in whatever room."""
    places = defaultdict(list)
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(file.relative_to(SOURCE)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
