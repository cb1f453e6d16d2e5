"""A project with a Hydra command line that trains in plain Python, and one with a fault each."""

from __future__ import annotations

from pathlib import Path

PROJECT = """
== pyproject.toml
[project]
name = "tinytrain"
version = "0"
[project.scripts]
train = "tinytrain.run:main"
evaluate = "tinytrain.run:evaluate"
convert = "tinytrain.convert:main"
greet = "tinytrain.greet:main"
== src/tinytrain/__init__.py
== src/tinytrain/greet.py
def main():
    raise SystemExit("trains for hours, if anybody calls it")
== src/tinytrain/convert.py
import argparse
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    print("converting", parser.parse_args().checkpoint)
== src/tinytrain/parts.py
import random
class Points:
    def __init__(self, num_samples, batch_size, num_workers, seed=0):
        if num_samples > 8 or batch_size > 2 or num_workers:
            raise ValueError("too much work for a brief run")
        rng = random.Random(seed)
        self.points = [rng.random() for _ in range(num_samples)]
    def __iter__(self):
        return iter(self.points)
class Line:
    def __init__(self, width, device="cpu"):
        if device != "cpu":
            raise RuntimeError("no GPU here")
        self.width = width
    def loss(self, point):
        return point * self.width
== src/tinytrain/run.py
import sys
from pathlib import Path
import hydra
from hydra.utils import instantiate
@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    model, data = instantiate(cfg.model), instantiate(cfg.data)
    folder = Path(cfg.output_dir)
    folder.mkdir(parents=True)
    losses = [model.loss(point) for point in data][: cfg.trainer.max_steps]
    print("Error_rate: 0.1, error: none", file=sys.stderr)
    Path(folder, "losses.txt").write_text(str(losses))
@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def _evaluate(cfg):
    Path(hydra.core.hydra_config.HydraConfig.get().runtime.output_dir, "scores").write_text("1")
def evaluate():
    _evaluate()
== src/tinytrain/conf/__init__.py
== src/tinytrain/conf/config.yaml
defaults:
  - model: line
  - data: points
  - _self_
trainer: {max_steps: 100000}
name: run
output_dir: outputs/${name}
== src/tinytrain/conf/evaluate.yaml
defaults: [{data: points}]
== src/tinytrain/conf/model/line.yaml
_target_: tinytrain.parts.Line
width: 3
device: cuda
== src/tinytrain/conf/data/points.yaml
_target_: tinytrain.parts.Points
num_samples: 5000
batch_size: 64
num_workers: 8
"""

FAULTS: dict[str, tuple[str, str, str, str, int, str]] = {
    # what is wrong: file, text in it, what stands there instead, file and line to name, words
    "an import that fails": (
        "src/tinytrain/run.py", "import sys", "import sys, a_library_nobody_has",
        "src/tinytrain/run.py", 1, "ModuleNotFoundError: No module named 'a_library_nobody_has'",
    ),
    "a wrong decorator": (
        "src/tinytrain/run.py", 'config_name="config"', 'config_nam="config"',
        "src/tinytrain/run.py", 5, "unexpected keyword argument 'config_nam'",
    ),
    "a config that isn't there": (
        "src/tinytrain/run.py", 'config_name="config"', 'config_name="konfig"',
        "src/tinytrain/run.py", 5, "there is no config konfig",
    ),
    "a default that isn't there": (
        "src/tinytrain/conf/config.yaml", "model: line", "model: lime",
        "src/tinytrain/conf/config.yaml", 2, "no config model/lime.yaml; did you mean line?",
    ),
    "a path that isn't there": (
        "src/tinytrain/parts.py", "        rng = random.Random(seed)",
        "        rng = random.Random(open('data/points.csv').read())",
        "src/tinytrain/parts.py", 6, "FileNotFoundError",
    ),
    "data that fails": (
        "src/tinytrain/parts.py", "return iter(self.points)", "return iter(self.point)",
        "src/tinytrain/parts.py", 9, "AttributeError",
    ),
    "a model that can't be built": (
        "src/tinytrain/parts.py", "self.width = width", "self.width = width / 0",
        "src/tinytrain/parts.py", 14, "ZeroDivisionError",
    ),
    "an argument that the model doesn't take": (
        "src/tinytrain/conf/model/line.yaml", "width: 3", "wdth: 3",
        "src/tinytrain/conf/model/line.yaml", 2, "takes no argument wdth; did you mean width?",
    ),
    "a script that leads nowhere": (
        "pyproject.toml", "tinytrain.run:main", "tinytrain.run:mian",
        "pyproject.toml", 5, "mian",
    ),
    "a traceback though all seems well": (
        "src/tinytrain/run.py", "    folder = Path(cfg.output_dir)",
        "    folder = Path(cfg.output_dir)\n    import traceback\n    try: 1 / 0\n"
        "    except Exception: traceback.print_exc()",
        "src/tinytrain/run.py", 10, "printed a traceback on stderr: ZeroDivisionError",
    ),
    "no experiment folder": (
        "src/tinytrain/run.py", "folder.mkdir(parents=True)", "return",
        "pyproject.toml", 5, "never made it",
    ),
    "an experiment folder that stays empty": (
        "src/tinytrain/run.py", 'Path(folder, "losses.txt").write_text(str(losses))', "pass",
        "pyproject.toml", 5, "left it empty",
    ),
    "output in the project": (
        "src/tinytrain/run.py", 'Path(folder, "losses.txt")',
        'Path(folder, "l").touch(); Path("l")',
        "pyproject.toml", 5, "wrote l in the project",
    ),
    "a process that is left running": (
        "src/tinytrain/run.py", "    losses = ",
        "    import subprocess; subprocess.Popen(['sleep', '600'])\n    losses = ",
        "pyproject.toml", 5, "left running (ended now): sleep 600",
    ),
}  # fmt: skip


def lay_out_project(folder: Path) -> Path:
    """Write the project."""
    for part in PROJECT.split("\n== ")[1:]:
        name, _, content = part.partition("\n")
        file = folder / name.strip()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n" if content else "", encoding="utf-8")
    return folder


def spoil(folder: Path, file: str, old: str, new: str) -> None:
    """Put another text in place of one that a file must have."""
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text, f"{file} has no {old!r}"
    (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")
