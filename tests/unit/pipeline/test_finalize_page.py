"""docs/pipeline.md on `finalize`: every key, as its description says; a config that works."""

from __future__ import annotations

import re
from pathlib import Path

from tests.unit.pipeline.test_serve_page import PAGE, keys

from tunematrix.configuration.steps import FinalizeStep
from tunematrix.pipeline.settings import read_settings

TEXT = PAGE.partition("\n## `tunematrix finalize`")[2].partition("\n## ")[0]


def test_every_key_is_on_the_page() -> None:
    """And no other."""
    named = dict(re.findall(r"^\| `([\w.]+)` \| .*? \| (.+) \|$", TEXT, re.MULTILINE))
    assert named == dict(keys(FinalizeStep))


def test_the_config_on_the_page(tmp_path: Path) -> None:
    """Whoever copies it has one that works, with what the page says on the command line."""
    (text,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    file = tmp_path / "finalize.yaml"
    file.write_text(text)
    given = ["tmp_path=/data", "export.quantizer=none"]
    settings = read_settings(file, FinalizeStep, given).settings
    assert settings.model.path == "/data/checkpoints/aligned"
    assert (settings.export.quantizer, settings.export.dtype) == ("none", "bfloat16")
