"""`tunematrix check --forward`: models that configs name, run once in a process of their own."""

from __future__ import annotations

from pathlib import Path

from tests.unit.inspection.trees import lay_out

from tunematrix.inspection import examine

TREE = """
== conf/config.yaml
defaults: [{model: good}, {data: points}, _self_]
dim: 4
== conf/data/points.yaml
_target_: app.nets.Points
dim: ${dim}
== conf/data/wide.yaml
_target_: app.nets.Points
dim: 6
== conf/model/good.yaml
_target_: app.nets.Net
dim: ${dim}
== conf/model/wrong_dim.yaml
_target_: app.nets.Net
dim: 7
== conf/model/nan.yaml
_target_: app.nets.Net
dim: ${dim}
divisor: 0.0
== conf/model/pooled.yaml
_target_: app.nets.Net
dim: ${dim}
pooled: true
== conf/model/narrow.yaml
_target_: app.nets.Net
dim: ${dim}
out: 2
== conf/model/example.yaml
_target_: app.nets.WithExample
dim: 9
== conf/model/dying.yaml
_target_: app.nets.Dying
dim: ${dim}
== src/app/nets.py
import os, signal, torch
class Net(torch.nn.Module):
    def __init__(self, dim, out=None, divisor=1.0, pooled=False):
        super().__init__()
        self.net, self.divisor, self.pooled = torch.nn.Linear(dim, out or dim), divisor, pooled
    def forward(self, x):
        y = self.net(x) / self.divisor
        return y.mean(0) if self.pooled else y
class WithExample(Net):
    example_input_array = torch.zeros(2, 9)
class Dying(Net):
    def forward(self, x): os.kill(os.getpid(), signal.SIGSEGV)
class Points:
    def __init__(self, dim): self.dim = dim
    def setup(self, stage): self.points = torch.randn(8, self.dim)
    def train_dataloader(self):
        points = torch.utils.data.TensorDataset(self.points)
        return torch.utils.data.DataLoader(points, batch_size=2)
"""


def test_models_run_once(tmp_path: Path) -> None:
    """Wrong dimensions, nan, a lost batch and a crash are faults; their configs and no others."""
    reports = examine([lay_out(TREE, tmp_path)], forward=True)
    faults = {r.file.name: " ".join(p.text for p in r.problems) for r in reports if r.problems}
    assert faults.keys() == {"wrong_dim.yaml", "wide.yaml", "nan.yaml", "pooled.yaml", "dying.yaml"}
    assert "shapes cannot be multiplied (2x4 and 7x7)" in faults["wrong_dim.yaml"]
    assert "app/nets.py:7 with RuntimeError" in faults["wrong_dim.yaml"]
    assert "shapes cannot be multiplied (2x6 and 4x4)" in faults["wide.yaml"]
    assert "8 of 8 values that are nan or inf" in faults["nan.yaml"]
    assert "shape (4,), so it doesn't keep the batch of the input (2, 4)" in faults["pooled.yaml"]
    assert "ended the process: was ended by SIGSEGV" in faults["dying.yaml"]


def test_shape_and_input_are_settings(tmp_path: Path) -> None:
    """With `keeps = "shape"` a narrower output is a fault; the input is made as it is told."""
    lay_out(TREE, tmp_path)
    for name in ("dying", "nan", "pooled", "wrong_dim", "example"):
        (tmp_path / f"conf/model/{name}.yaml").unlink()
    settings = '[tool.tunematrix.inspect]\ndata = ""\ninput = {shape = [3, "dim"]}\n'
    (tmp_path / "pyproject.toml").write_text(settings + 'keeps = "shape"\n')
    reports = examine([tmp_path / "conf"], forward=True)
    faults = {r.file.name: [p.text for p in r.problems] for r in reports if r.problems}
    assert faults == {"narrow.yaml": ["the output has shape (3, 2), the input (3, 4)"]}
