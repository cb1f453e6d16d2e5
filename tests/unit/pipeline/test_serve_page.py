"""docs/pipeline.md on `serve`: every key, in the words of its description; a config that works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import get_args

from pydantic import BaseModel

from tunematrix.configuration.answers import ServeStep
from tunematrix.pipeline.settings import read_settings

PAGE = (Path(__file__).parents[3] / "docs/pipeline.md").read_text(encoding="utf-8")
TEXT = PAGE.partition("\n## `tunematrix serve`")[2].partition("\n## ")[0]


def keys(section: type[BaseModel], before: str = "") -> Iterator[tuple[str, str | None]]:
    """Yield the keys of a section, dotted, each with its description."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
        own = [one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)]
        if own:
            yield from keys(own[0], f"{before}{name}.")
        else:
            yield f"{before}{name}", field.description


def test_every_key_is_on_the_page() -> None:
    """And no other."""
    named = dict(re.findall(r"^\| `([\w.]+)` \| .*? \| (.+) \|$", TEXT, re.MULTILINE))
    assert named == dict(keys(ServeStep))


def test_the_config_on_the_page(tmp_path: Path) -> None:
    """Whoever copies it has one that works, with what the page says on the command line."""
    (text,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    file = tmp_path / "serve.yaml"
    file.write_text(text)
    given = ["tmp_path=/data", "port=8000", "stay=true"]
    settings = read_settings(file, ServeStep, given).settings
    assert settings.model.path == "/data/checkpoints/aligned"
    assert (settings.port, settings.stay, len(settings.prompts)) == (8000, True, 2)
