"""Config folders that are all right: what Hydra, Python and other tools bring beside them."""

from __future__ import annotations

HONEST_OTHERS: dict[str, str] = {
    "a sweep": """
== conf/config.yaml
defaults: [{model: small}, {override hydra/launcher: basic}, _self_]
lr: 0.1
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      model: small,big
      lr: 0.1,0.01
  sweep: {dir: "sweeps/${now:%H}", subdir: "${hydra.job.override_dirname}"}
== conf/model/small.yaml
dim: 1
== conf/model/big.yaml
dim: 2
""",
    "logging of a plug-in's": """
== conf/config.yaml
defaults:
  - hydra: default
  - _self_
seed: 1
== conf/hydra/default.yaml
defaults:
  - override hydra_logging: disabled
  - override job_logging: none
run: {dir: "logs/${now:%Y}/${seed}"}
""",
    "a search path": """
== conf/config.yaml
defaults: [{model: other}, _self_]
hydra: {searchpath: ["pkg://app.more"]}
== src/app/more/__init__.py
== src/app/more/model/other.yaml
dim: 4
""",
    "structured configs": """
== conf/config.yaml
defaults: [base_config, {db: mysql}, _self_]
lr: 0.5
== conf/db/mysql.yaml
defaults: [base_mysql]
port: 3307
== src/app/schemas.py
from dataclasses import dataclass, field
from hydra.core.config_store import ConfigStore
@dataclass
class MySQL:
    host: str = "localhost"
    port: int = 3306
@dataclass
class Config:
    lr: float = 0.1
    db: MySQL = field(default_factory=MySQL)
store = ConfigStore.instance()
store.store(name="base_config", node=Config)
store.store(group="db", name="base_mysql", node=MySQL)
""",
    "a primary config in Python": """
== src/app/conf/model/small.yaml
dim: 2
== src/app/conf/model/big.yaml
dim: 3
== src/app/run.py
from dataclasses import dataclass, field
from typing import Any
import hydra
from hydra.core.config_store import ConfigStore
@dataclass
class Config:
    defaults: list[Any] = field(default_factory=lambda: [{"model": "small"}, "_self_"])
    model: Any = None
    seed: int = 3
ConfigStore.instance().store(name="config", node=Config)
@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg): print(cfg)
if __name__ == "__main__":
    main()
""",
    "YAML of other tools beside it": """
== conf/config.yaml
defaults: [{model: small}, _self_]
== conf/model/small.yaml
dim: 1
== docker-compose.yml
services:
  db: {image: "postgres:${TAG:-16}", environment: ["PASSWORD=${PASSWORD:?set it}"]}
== conf/docker-compose.yaml
services: {web: {image: "${IMAGE}"}}
== deploy/k8s.yaml
apiVersion: v1
kind: Service
---
apiVersion: v1
kind: Pod
== chart/templates/pod.yaml
{{- if .Values.on }}
kind: Pod
{{- end }}
== ci/pipeline.yaml
on: {push: {branches: [main]}}
jobs: {test: {steps: [{run: "echo ${{ github.ref }}"}]}}
== template.yaml
Resources:
  Bucket: {Type: "AWS::S3::Bucket", Name: !Sub "${AWS::StackName}-x", Arn: !GetAtt a.b}
== environment.yml
channels: [conda-forge]
dependencies: [python=3.11]
== dvc.yaml
stages: {train: {cmd: "python train.py ${model.lr}"}}
== sweep.yaml
program: train.py
method: grid
command: ["${env}", "${interpreter}", "${program}", "${args}"]
== mkdocs.yml
site_name: x
markdown_extensions: [{pymdownx.emoji: {emoji_index: !!python/name:material.emoji ""}}]
== jekyll.yml
defaults:
  - scope: {path: ""}
    values: {layout: page}
== playbook.yaml
- hosts: all
  tasks: [{name: "${user}"}]
== trainer.yaml
model_name_or_path: gpt2
output_dir: ${oc.env:HOME,/tmp}/out
learning_rate: 1e-4
run: ${output_dir}/run
""",
    "what runs of Hydra left": """
== conf/config.yaml
defaults: [{model: small}, _self_]
== conf/model/small.yaml
dim: 1
== outputs/2026-01-01/.hydra/config.yaml
model: {dim: "${gone}"}
== outputs/2026-01-01/.hydra/overrides.yaml
- model=old
== multirun/2026-01-01/multirun.yaml
hydra: {run: {dir: "${gone}"}}
""",
    "plain files without Hydra": """
== configs/a.yaml
name: a
path: runs/${name}
model: {_target_: app.parts.Model, dim: 3}
== configs/nested/b.yml
- {x: 1}
- {x: 2}
== configs/c.yaml
learning_rate: 3e-4
layers: [1, 2]
""",
}
