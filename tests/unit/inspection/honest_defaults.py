"""Config folders that are all right: how defaults lists, groups and packages put files together."""

from __future__ import annotations

HONEST_DEFAULTS: dict[str, str] = {
    "defaults with packages": """
== conf/config.yaml
defaults:
  - model@encoder: small
  - model@decoder: big
  - /data@sources.first: text
  - _self_
dim: 8
== conf/model/small.yaml
_target_: app.parts.Model
dim: ${dim}
== conf/model/big.yaml
_target_: app.parts.Model
dim: ${dim}
hidden: 9
== conf/model/middle.yaml
_target_: app.parts.Model
dim: ${dim}
hidden: 6
== conf/data/text.yaml
_target_: app.parts.Data
""",
    "optional defaults": """
== conf/config.yaml
defaults:
  - model: small
  - optional local: default
  - optional model_data: ${model}_text
  - _self_
== conf/model/small.yaml
dim: 3
== conf/model/big.yaml
dim: 30
""",
    "experiments": """
== conf/train.yaml
defaults:
  - _self_
  - model: small
  - data: text
  - experiment: null
seed: 1
dim: 4
== conf/model/small.yaml
_target_: app.parts.Model
dim: ${dim}
== conf/model/big.yaml
_target_: app.parts.Model
dim: ${dim}
hidden: 64
== conf/data/text.yaml
_target_: app.parts.Data
batch_size: 4
== conf/experiment/wide.yaml
# @package _global_
defaults:
  - override /model: big
  - override /data: text
seed: 7
model:
  hidden: 128
data: {batch_size: 8}
""",
    "an experiment of one config among several": """
== conf/train.yaml
defaults: [{model: small}, _self_]
== conf/distill.yaml
defaults: [{model: small}, {teacher: large}, _self_]
== conf/model/small.yaml
dim: 3
== conf/teacher/large.yaml
dim: 9
== conf/teacher/huge.yaml
dim: 99
temperature: ${temperature_of.all}
== conf/temperature_of/default.yaml
all: 2.0
== conf/experiment/distilled.yaml
# @package _global_
defaults:
  - /temperature_of: default
  - override /teacher: huge
""",
    "_self_ last, first and absent": """
== conf/a.yaml
defaults: [{model: small}, _self_]
model: {dim: 5}
== conf/b.yaml
defaults: [_self_, {model: small}]
model: {dim: 5}
== conf/c.yaml
defaults: [{model: small}]
== conf/model/small.yaml
dim: 3
""",
    "nested groups": """
== conf/config.yaml
defaults: [{model: deep}, _self_]
width: 3
== conf/model/deep.yaml
defaults:
  - encoder: plain
  - /head@_global_.head: linear
_target_: app.parts.Model
dim: 2
== conf/model/flat.yaml
_target_: app.parts.Model
dim: 2
== conf/model/encoder/plain.yaml
width: ${width}
== conf/model/encoder/rich.yaml
width: ${..dim}
== conf/head/linear.yaml
size: 3
""",
    "a group that only one option has": """
== conf/config.yaml
defaults: [{model: flat}, _self_]
== conf/model/flat.yaml
dim: 2
== conf/model/deep.yaml
defaults: [{encoder: plain}]
dim: 3
== conf/model/encoder/plain.yaml
width: ${model.dim}
== conf/model/encoder/rich.yaml
width: ${model.dim}
""",
    "options that inherit from others": """
== conf/config.yaml
defaults: [{model: small}, _self_]
== conf/model/_base.yaml
_target_: app.parts.Model
dim: ${.width}
hidden: 3
== conf/model/small.yaml
defaults: [_base, _self_]
dim: 4
== conf/model/big.yaml
defaults:
  - small
  - _self_
hidden: 30
""",
    "options with odd names": """
== conf/config.yaml
defaults: [{model: 7b}, {lr: "1e-3"}, _self_]
== conf/model/nan.yaml
dim: 1
== conf/model/null.yaml
dim: 1
== conf/model/true.yaml
dim: 1
== conf/model/7b.yaml
dim: 1
== conf/model/llama-3.1_8b.yaml
dim: 1
== conf/model/a b, (c).yaml
dim: 1
== conf/lr/1e-3.yaml
value: 1
== conf/lr/10.yaml
value: 1
""",
    "an option that needs another one": """
== conf/config.yaml
defaults: [{model: mlp}, {data: points}, _self_]
== conf/model/mlp.yaml
dim: 2
== conf/model/graph.yaml
nodes: ${data.nodes}
== conf/data/points.yaml
count: 3
== conf/data/graphs.yaml
nodes: 9
""",
    "a config folder in a package, with packages of headers": """
== src/app/conf/__init__.py
== src/app/conf/config.yaml
defaults: [{server: local}, {server/auth: none}, _self_]
== src/app/conf/server/local.yaml
# @package deployment.server
host: localhost
== src/app/conf/server/remote.yaml
# @package deployment.server
host: ${deployment.server.zone}.example.org
zone: a
== src/app/conf/server/auth/none.yaml
# @package deployment.auth
user: null
== src/app/conf/server/auth/token.yaml
# @package deployment.auth
user: me
host: ${deployment.server.host}
""",
}
