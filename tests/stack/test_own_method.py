"""A method of one's own: one option's file and a class, and nothing that is shipped is copied."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tunematrix.paths import shipped_configs

if TYPE_CHECKING:
    from tests.stack.conftest import RunSmall

OPTION = """
name: patterned
description: LoRA with a rank that is given by pattern
trains_base: false
learning_rates: {adaptive: 1e-2, plain: 1.0}
implementation:
  _target_: patterned.Patterned
  rank: 8
  alpha: 16
  patterns: {q_proj: 8, v_proj: 8}
"""
CLASS = """
from tunematrix.stack.engines.torch.methods import Lora


class Patterned(Lora):
    def __init__(self, rank, alpha, patterns):
        super().__init__(rank, alpha, 0.0, use_rslora=False, use_dora=False, modules_to_save=[])
        self.settings["rank_pattern"] = patterns
"""


@pytest.fixture
def config_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The shipped options, and one beside them."""
    method = tmp_path / "own/method/patterned.yaml"
    method.parent.mkdir(parents=True)
    method.write_text(OPTION)
    (tmp_path / "patterned.py").write_text(CLASS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return [shipped_configs(), tmp_path / "own"]


@pytest.mark.parametrize(
    ("recipe", "data"), [("sft", "text"), ("dpo", "prompt-completion")], ids=["sft", "dpo"]
)
def test_any_recipe_takes_it(recipe: str, data: str, run_small: RunSmall) -> None:
    """A mapping among its settings arrives as one, so that it is saved as one."""
    ran = run_small("patterned", recipe=recipe, data=data, train__learning_rate=0.004)
    assert ran.failed <= {"gap_closed", "preference"}  # three steps teach little
    saved = json.loads((ran.folder / "output/model/adapter_config.json").read_text())
    assert saved["rank_pattern"] == {"q_proj": 8, "v_proj": 8}
