"""Faulty config folders: files, groups and schemas that don't go together."""

from __future__ import annotations

FAULTY_DEFAULTS: dict[str, tuple[str, list[tuple[str, int, str]]]] = {
    "an option that isn't there": (
        """
== conf/config.yaml
defaults:
  - model: smal
  - _self_
== conf/model/small.yaml
dim: 3
""",
        [("conf/config.yaml", 2, "no config model/smal.yaml; did you mean small?")],
    ),
    "a group that isn't there": (
        """
== conf/config.yaml
defaults:
  - _self_
  - modle: small
== conf/model/small.yaml
dim: 3
""",
        [("conf/config.yaml", 3, "no config modle/small.yaml")],
    ),
    "a file that another one includes isn't there": (
        """
== conf/config.yaml
defaults: [{model: small}, _self_]
== conf/model/small.yaml
defaults:
  - bas
== conf/model/base.yaml
dim: 3
""",
        [("conf/model/small.yaml", 2, "no config model/bas.yaml; did you mean base?")],
    ),
    "an override of a group that no config has": (
        """
== conf/config.yaml
defaults: [{model: small}, _self_]
== conf/model/small.yaml
dim: 3
== conf/experiment/wide.yaml
# @package _global_
defaults:
  - override /modell: small
""",
        [("conf/experiment/wide.yaml", 3, "modell")],
    ),
    "a circle of defaults": (
        """
== conf/config.yaml
defaults: [{model: small}, _self_]
== conf/model/small.yaml
defaults:
  - big
== conf/model/big.yaml
defaults:
  - _self_
  - small
""",
        [("conf/model/big.yaml", 3, "in a circle: model/small → model/big → model/small")],
    ),
    "configs that include nothing but each other": (
        """
== conf/one.yaml
defaults: [two, _self_]
== conf/two.yaml
defaults: [one, _self_]
== conf/train.yaml
defaults: [_self_]
steps: 2
""",
        [
            ("conf/two.yaml", 1, "in a circle: one → two → one"),
            ("conf/one.yaml", 1, "in a circle: two → one → two"),
        ],
    ),
    "a value against its schema": (
        """
== conf/config.yaml
defaults: [base_config, {model: small}, _self_]
lr: fast
== conf/model/small.yaml
dim: 3
== src/app/schemas.py
from dataclasses import dataclass
from typing import Any
from hydra.core.config_store import ConfigStore
@dataclass
class Config:
    lr: float = 0.1
    model: Any = None
ConfigStore.instance().store(name="base_config", node=Config)
""",
        [("conf/config.yaml", 2, "Value 'fast' of type 'str' could not be converted to Float")],
    ),
    "a key that its schema doesn't have": (
        """
== conf/config.yaml
defaults: [base_config, {model: small}, _self_]
lr: 0.1
== conf/model/small.yaml
dim: 3
== conf/experiment/wide.yaml
# @package _global_
seed: 3
learning_rate: 3
== src/app/schemas.py
from dataclasses import dataclass
from typing import Any
from hydra.core.config_store import ConfigStore
@dataclass
class Config:
    lr: float = 0.1
    seed: int = 0
    model: Any = None
ConfigStore.instance().store(name="base_config", node=Config)
""",
        [("conf/experiment/wide.yaml", 3, "learning_rate")],
    ),
    "two options that don't go together": (
        """
== conf/config.yaml
defaults: [{model: small}, {extra: none}, _self_]
== conf/model/small.yaml
layers: {first: 1}
== conf/extra/none.yaml
== conf/extra/deep.yaml
# @package _global_
model:
  layers:
    first: ${model.layers.second}
""",
        [("conf/extra/deep.yaml", 4, "there is no key model.layers.second")],
    ),
    "a plug-in of Hydra's that isn't there": (
        """
== conf/config.yaml
defaults:
  - _self_
  - override hydra/launcher: joblibb
seed: 1
""",
        [("conf/config.yaml", 3, "Hydra has no hydra/launcher/joblibb here")],
    ),
    "a config that @hydra.main doesn't find": (
        """
== src/app/conf/config.yaml
defaults: [{model: small}, _self_]
== src/app/conf/model/small.yaml
dim: 3
== src/app/run.py
import hydra

@hydra.main(version_base="1.3", config_path="conf", config_name="confg")
def main(cfg): print(cfg)
@hydra.main(version_base="1.3", config_path="konf", config_name="config")
def other(cfg): print(cfg)
""",
        [
            ("src/app/run.py", 3, "there is no config confg"),
            ("src/app/run.py", 5, "there is no config folder"),
        ],
    ),
}
