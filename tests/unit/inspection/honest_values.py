"""Config folders that are all right: targets, interpolations, lists, and values still to come."""

from __future__ import annotations

HONEST_VALUES: dict[str, str] = {
    "recursive, partial and positional": """
== conf/config.yaml
model:
  _target_: app.parts.Model
  _args_: [3]
  _convert_: all
  encoder:
    _target_: app.parts.Model
    dim: 4
    encoder: {_target_: app.parts.Model, dim: 5}
optimizer:
  _target_: app.parts.Optimizer
  _partial_: true
  lr: 3e-4
loss: {_target_: app.parts.loss, _partial_: true, weight: 2}
frozen:
  _target_: app.parts.Model
  _recursive_: false
  dim: 1
  encoder: {_target_: app.parts.Model, dim: 2}
built: {_target_: app.parts.Outer.Inner.build, size: 2}
metric: {_target_: math.hypot, _args_: [3, 4]}
""",
    "arguments that code adds": """
== conf/config.yaml
optimizer: {_target_: app.parts.Optimizer, lr: 0.1}
loss: {_target_: app.parts.loss}
== src/app/train.py
from hydra.utils import call, instantiate
import hydra
@hydra.main(version_base="1.3", config_path="../../conf", config_name="config")
def main(cfg):
    instantiate(cfg.optimizer, params=[1])
    hydra.utils.call(cfg.loss, prediction=1, truth=2)
""",
    "resolvers of OmegaConf and Hydra": """
== conf/config.yaml
defaults: [{paths: default}, _self_]
name: run-${now:%Y-%m-%d}
cache: ${oc.env:HOME,/tmp}/cache
token: ${oc.env:A_VARIABLE_NOBODY_HAS_SET}
number: ${oc.decode:${oc.env:A_VARIABLE_NOBODY_HAS_SET,"3"}}
keys: ${oc.dict.keys:paths}
chosen: ${hydra:runtime.choices.paths}
python: ${python_version:minor}
fallback: ${oc.select:absent.key,7}
escaped: \\${not_one}
job: ${hydra:job.num}
hydra:
  run: {dir: "runs/${name}"}
  sweep: {dir: multirun, subdir: "${hydra.job.num}"}
== conf/paths/default.yaml
root: ${hydra:runtime.cwd}
out: ${hydra:runtime.output_dir}
work: ${.root}/work
""",
    "mandatory values and groups": """
== conf/config.yaml
defaults:
  - model: ???
  - data: text
  - _self_
run_name: ???
out: outputs/${run_name}
model_dim: ${model.dim}
== conf/model/small.yaml
_target_: app.parts.Model
dim: ???
== conf/model/big.yaml
_target_: app.parts.Model
dim: 9
== conf/data/text.yaml
_target_: app.parts.Data
path: ${run_name}
""",
    "lists": """
== conf/config.yaml
defaults:
  - callbacks: [early, late]
  - _self_
stages: [{name: one, lr: 0.1}, {name: two, lr: "${stages[0].lr}"}]
sizes: [1, 2, "${stages.0.name}"]
empty: []
== conf/callbacks/early.yaml
early: {_target_: app.parts.Data}
== conf/callbacks/late.yaml
late: {_target_: app.parts.Data}
== conf/callbacks/none.yaml
""",
    "resolvers of the project's own": """
== conf/config.yaml
total: ${app.add:1,2}
double: ${twice:${total}}
model: {_target_: app.parts.Model, dim: "${twice:4}"}
== src/app/resolvers.py
from omegaconf import OmegaConf
OmegaConf.register_new_resolver("app.add", lambda a, b: a + b)
OmegaConf.register_new_resolver("twice", lambda a: 2 * a)
""",
    "anchors and merges": """
== conf/config.yaml
defaults: [{model: small}, _self_]
base: &base {lr: 0.1, steps: 3}
first: {<<: *base, lr: 0.2}
second:
  <<: *base
list: [*base, *base]
== conf/model/small.yaml
dim: 1e-3
1: a number as a key
yes: a word as a key
""",
}
