"""What the fast way of composing gives is what `hydra.compose` gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from tests.unit.inspection.trees import HONEST, lay_out

from tunematrix.inspection.compose import Composer
from tunematrix.inspection.tree import discover

CASES = [
    ("experiments", "train", ["experiment=wide", "seed=3"]),
    ("experiments", "train", ["model=big"]),
    ("defaults with packages", "config", ["model@decoder=middle"]),
    ("nested groups", "config", []),
    ("options that inherit from others", "config", ["model=big"]),
    ("_self_ last, first and absent", "b", []),
    ("anchors and merges", "config", []),
    ("lists", "config", []),
    ("a sweep", "config", ["hydra.mode=RUN"]),
    ("logging of a plug-in's", "config", []),
]


@pytest.mark.parametrize(("tree", "base", "overrides"), CASES)
def test_the_same_config(tree: str, base: str, overrides: list[str], tmp_path: Path) -> None:
    """Key by key, in the same order."""
    (folder,) = discover([lay_out(HONEST[tree], tmp_path)]).trees
    composer = Composer(folder)
    ours = composer.compose(base, [one for one in overrides if not one.startswith("hydra.")])
    assert ours.config is not None
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(folder.root), version_base="1.3"):
        theirs = compose(base, overrides)
    plain = OmegaConf.to_container(ours.config)
    assert isinstance(plain, dict)
    plain.pop("hydra", None)
    assert plain == OmegaConf.to_container(theirs)
    assert list(plain) == list(theirs)
