"""The files in which both are kept: YAML that a command writes and people review."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from tunematrix.configuration.section import Section
from tunematrix.errors import MachineProblem
from tunematrix.paths import shown
from tunematrix.spec.explain import explained
from tunematrix.spec.problems import refuse
from tunematrix.spec.yaml_tree import read_tree

MOST_BYTES = 4 * 1024 * 1024
"""Of a file: 500 bytes for each of eight thousand cells."""

Written = TypeVar("Written", bound=Section)


def read_file(path: Path, model: type[Written]) -> Written:
    """Read a file as a model.

    Raises:
        BadInput: it is malformed; the text says file and line.
    """
    tree = read_tree(path, MOST_BYTES)
    refuse(tree.problems)
    try:
        return model.model_validate(tree.data)
    except ValidationError as error:
        refuse(explained(tree, model, error))
        raise


def write_file(path: Path, head: str, plain: Mapping[str, Any], *, dense: bool = False) -> Path:
    """Write plain data below a comment, in place of what was there, and return the file.

    Args:
        path: of the file. head: the comment. plain: what is written.
        dense: whether a mapping of nothing but figures and words is one line.

    Raises:
        MachineProblem: there is no room, or no right to write.
    """
    draft = path.with_suffix(".draft")
    text = yaml.safe_dump(
        plain,
        sort_keys=False,
        width=100,
        allow_unicode=True,
        default_flow_style=None if dense else False,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(head + text, encoding="utf-8")
        return draft.replace(path)
    except OSError as error:
        message = f"can't write {shown(path)}: {error.strerror}; free space, or make it writable"
        raise MachineProblem(message) from error


def slug(text: str) -> str:
    """Return a text as the name of a file: lower case, other characters than a-z, 0-9, _ as -."""
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")


def minor(version: str) -> str:
    """Return the part of a version in which releases with other figures differ: 2.13 of 2.13.0."""
    return ".".join(version.split(".")[:2])
