"""Faulty config folders: text, interpolations and targets that lead nowhere."""

from __future__ import annotations

FAULTY_VALUES: dict[str, tuple[str, list[tuple[str, int, str]]]] = {
    "an interpolation of a key that isn't there": (
        """
== conf/config.yaml
defaults: [{model: small}, _self_]
dim: 3
== conf/model/small.yaml
_target_: app.parts.Model
dim: ${dimm}
""",
        [("conf/model/small.yaml", 2, "no key dimm; did you mean dim?")],
    ),
    "several faults at once, in an option that isn't chosen": (
        """
== conf/config.yaml
defaults: [{model: small}, _self_]
dim: 3
== conf/model/small.yaml
dim: 3
== conf/model/big.yaml
_target_: app.parts.Modell

dim: ${.no.key}
encoder: {_target_: app.part.Model}
decoder:
  - _target_: app.parts.Model
    dim: 3
    hiden: 4
""",
        [
            ("conf/model/big.yaml", 1, "app.parts has no Modell; did you mean Model?"),
            ("conf/model/big.yaml", 3, "there is no key model.no.key"),
            ("conf/model/big.yaml", 4, "app has no part; did you mean parts?"),
            ("conf/model/big.yaml", 8, "takes no argument hiden; did you mean hidden?"),
        ],
    ),
    "a module that isn't there": (
        """
== conf/config.yaml
model:
  _target_: apps.parts.Model
""",
        [("conf/config.yaml", 2, "has no module apps; install it here, or correct the name")],
    ),
    "a circle of interpolations": (
        """
== conf/config.yaml
defaults: [{model: small}, _self_]
a: ${model.b}
c: ${a}
== conf/model/small.yaml
b: ${c}
d: ${.b}
""",
        [("conf/config.yaml", 2, "in a circle: a → model.b → c → a")],
    ),
    "an interpolation of itself": (
        """
== config.yaml
name: x
dir: ${dir}/${name}
model: {_target_: app.parts.Data}
""",
        [("config.yaml", 2, "in a circle: dir → dir")],
    ),
    "text that isn't YAML": (
        """
== conf/config.yaml
defaults: [{model: small}, _self_]
== conf/model/small.yaml
dim: 3
== conf/model/big.yaml
dim: 3
	hidden: 4
""",
        [("conf/model/big.yaml", 2, "this line holds a tab")],
    ),
    "a text that the parser of OmegaConf refuses": (
        """
== conf/config.yaml
defaults: [{model: small}, _self_]
seed: 1
paths: {out: a/b?c}
== conf/model/small.yaml
dim: 3
""",
        [("conf/config.yaml", 3, "is not YAML")],
    ),
    "plain text with a tab": (
        """
== trainer.yaml
optimizer:
	lr: 1
""",
        [("trainer.yaml", 2, "this line holds a tab; YAML is indented by spaces")],
    ),
    "plain text that isn't YAML": (
        """
== trainer.yaml
lr: [1, 2
steps: 3
""",
        [("trainer.yaml", 2, "is not YAML")],
    ),
    "a key given twice": (
        """
== conf/config.yaml
defaults: [{model: small}, _self_]
== conf/model/small.yaml
dim: 3
hidden: 2
dim: 4
""",
        [("conf/model/small.yaml", 3, "is given twice, first in line 1")],
    ),
    "an interpolation without an end": (
        """
== conf/config.yaml
defaults: [{model: small}, _self_]
name: "${model.dim"
== conf/model/small.yaml
dim: 3
""",
        [("conf/config.yaml", 2, "${model.dim")],
    ),
    "a resolver that nobody registers": (
        """
== conf/config.yaml
defaults: [{model: small}, _self_]
home: ${oc.evn:HOME}
== conf/model/small.yaml
dim: ${double:3}
""",
        [
            ("conf/config.yaml", 2, "no resolver oc.evn is registered"),
            ("conf/model/small.yaml", 1, "no resolver double is registered"),
        ],
    ),
    "an argument that nobody gives": (
        """
== conf/config.yaml
model: {_target_: app.parts.Model, hidden: 3}
optimizer: {_target_: app.parts.Optimizer}
== src/app/train.py
from hydra.utils import instantiate
def main(cfg):
    instantiate(cfg.model)
    instantiate(cfg.optimizer, params=[])
""",
        [("conf/config.yaml", 1, "app.parts.Model needs dim, which neither")],
    ),
    "a target that can't be called": (
        """
== conf/config.yaml
a: {_target_: math.pi}
b: {_target_: app.parts.loss, _args_: [1, 2, 3, 4]}
""",
        [
            ("conf/config.yaml", 1, "math.pi is a float and can't be called"),
            ("conf/config.yaml", 2, "too many positional arguments"),
        ],
    ),
    "a project whose import fails": (
        """
== conf/config.yaml
model: {_target_: app.broken.Model}
other: {_target_: app.torn.Model}
== src/app/broken.py
import os

import a_library_nobody_has
== src/app/torn.py
class Model:
    def __init__(self)
""",
        [
            ("conf/config.yaml", 1, "app/broken.py:3 with ModuleNotFoundError"),
            ("conf/config.yaml", 2, "app/torn.py:2 with SyntaxError"),
        ],
    ),
    "an import that ends the process": (
        """
== conf/config.yaml
model: {_target_: app.deadly.Model}
other: {_target_: app.parts.Data}
third: {_target_: app.leaving.Model}
== src/app/deadly.py
import os, signal
os.kill(os.getpid(), signal.SIGKILL)
== src/app/leaving.py
import os
os._exit(0)
""",
        [
            ("conf/config.yaml", 1, "was ended by SIGKILL"),
            ("conf/config.yaml", 3, "ended with exit code 0"),
        ],
    ),
    "a wrong key for Hydra itself": (
        """
== conf/config.yaml
defaults: [{model: small}, _self_]
hydra:
  run:
    dirr: out
== conf/model/small.yaml
dim: 3
""",
        [("conf/config.yaml", 4, "dirr")],
    ),
    "a folder for runs that can't be": (
        """
== conf/config.yaml
defaults: [{model: small}, _self_]
hydra:
  run:
    dir: out/${nam}
== conf/model/small.yaml
dim: 3
""",
        [("conf/config.yaml", 4, "there is no key nam")],
    ),
}
