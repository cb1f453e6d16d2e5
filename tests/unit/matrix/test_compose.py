from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf
from tests.unit.matrix.plans import ENVIRONMENTS, planned

from tunematrix.configuration import Configuration
from tunematrix.errors import BadInput
from tunematrix.matrix.cells import Cell, expand
from tunematrix.matrix.compose import compose, interpolated
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.paths import shipped_configs
from tunematrix.spec import Spec
from tunematrix.spec.matrix import Matrix

Load = Callable[..., Spec]
MakeRoot = Callable[..., Path]

SAMPLED = 60
"""Every so manieth cell is composed by Hydra as well, which takes a quarter of a second each."""


def only_cell(spec: Spec, groups: Groups) -> Cell:
    """Return the one cell of a spec on the CPU."""
    (cell,), _ = expand(spec, groups, ["cpu"])
    return cell


def composed_by_hydra(cell: Cell, root: Path) -> dict[str, Any]:
    """Return what Hydra itself makes of a cell's options and overrides."""
    options = [f"{axis}={option}" for axis, option in cell.axes.items()]
    # What a table that a file leaves empty is filled with is new to Hydra.
    settings = [f"++{key}={json.dumps(value)}" for key, value in cell.overrides.items()]
    with initialize_config_dir(str(root.resolve()), version_base="1.3"):
        config = hydra_compose("cell", [*options, *settings])
    return dict(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]  # a mapping


@pytest.mark.each_time(2)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_hydra_composes_the_same(environment: str, shipped: Groups) -> None:
    """Merging the groups that were read already comes to what Hydra makes of the files."""
    for cell in planned(environment).cells[::SAMPLED]:
        assert interpolated(cell, shipped) == composed_by_hydra(cell, shipped_configs()), cell.id


def test_every_cell_has_a_configuration(shipped: Groups) -> None:
    """What each cell of the suite is composed to fits the models, and comes back from JSON."""
    for cell in planned("cpu").cells:
        config = compose(cell, shipped, "../cache")
        again = Configuration.model_validate_json(json.dumps(config.to_json()))
        assert again == config, cell.id


AWKWARD = [
    "",
    " ",
    "a=b",
    "a,b",
    "it's",
    'say "hi"',
    "back\\slash",
    "ends in \\",
    "'\\\\'",
    "line\nbreak",
    "[a]",
    "{a: b}",
    "true",
    "NULL",
    "1e5",
    "007",
    "$x",
    "~home",
    "ünï",
]


def test_texts_arrive_as_they_were(shipped: Groups) -> None:
    """Whatever a text looks like, it is the same in the configuration."""
    key = "method.implementation.modules_to_save"
    spec = Spec(test_id="a", recipe="sft", overrides={key: tuple(AWKWARD)})
    config = compose(only_cell(spec, shipped), shipped)
    assert config.method.implementation["modules_to_save"] == AWKWARD


def test_whole_configuration(shipped: Groups, load: Load) -> None:
    """Options, overrides and interpolations all arrive, each with its type."""
    spec = load(
        "matrix: {quantizer: [hqq-int4], optimizer: [sgd]}\noverrides: {train.max_steps: 3}"
    )
    config = compose(only_cell(spec, shipped), shipped, "../../cache")
    assert config.quantizer.name == "hqq-int4"
    assert config.quantizer.theory is not None
    assert config.quantizer.theory.weight_bits == 4
    assert config.train.max_steps == 3
    assert config.train.loss_on == "all"
    assert config.train.learning_rate == config.method.learning_rates.plain
    assert config.cache_dir == "../../cache"
    assert set(config.options()) == set(shipped.axes)


def test_awkward_model_path(shipped: Groups, tmp_path: Path) -> None:
    """A folder whose name is full of punctuation is handed on unharmed."""
    folder = tmp_path / "it's a=1, [x] {y} \\"
    folder.mkdir()
    spec = Spec(test_id="a", recipe="sft", matrix=Matrix.of({"model": (str(folder),)}))
    assert compose(only_cell(spec, shipped), shipped).model.path == str(folder)


def test_user_folder_with_an_axis_of_its_own(make_root: MakeRoot, load: Load) -> None:
    """Options and axes of a second folder compose, wherever that folder lies."""
    rates = "learning_rates: {adaptive: 0.5, plain: 1.0}"
    own = make_root(
        {
            "cell.yaml": "defaults: [{tracker: quiet}]\n",
            "tracker/quiet.yaml": "name: quiet\nlevel: 1\n",
            "tracker/loud.yaml": "name: loud\nlevel: 2\n",
            "method/mine.yaml": f"name: mine\ntrains_base: false\n{rates}\n",
        },
        "own, it's mine",
    )
    spec = load("matrix: {method: [mine], tracker: [loud]}\noverrides: {tracker.level: 3}")
    groups = read_groups([shipped_configs(), own])
    config = compose(only_cell(spec, groups), groups)
    assert config.added["tracker"].model_dump(exclude_defaults=True) == {"name": "loud", "level": 3}
    assert config.train.learning_rate == 0.5


SMALL = {
    "cell.yaml": "defaults: [{recipe: sft}, {backend: cpu}, _self_]\n",
    "recipe/sft.yaml": "name: sft\n",
    "backend/cpu.yaml": "name: cpu\n",
}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "train: {seed: '???', rows: '???'}",
            r"train\.rows, train\.seed: left open \(\?\?\?\); set",
        ),
        ("train: {seed: '${gone.key}'}", r"train\.seed: Interpolation key 'gone\.key' not found; "),
        ("train: {seed: '${nothing:1}'}", r"train\.seed: Unsupported interpolation type nothing; "),
        ("train: {seed: '${open'}", r"train\.seed: .*; correct the config"),
        ("train: {seed: '${backend.name}'}", r".*train\.seed: expected a whole number, got 'cpu'"),
    ],
)
def test_broken_configs(make_root: MakeRoot, load: Load, line: str, expected: str) -> None:
    """A missing value or a broken interpolation names the spec, the cell and the key."""
    root = make_root(SMALL | {"cell.yaml": SMALL["cell.yaml"] + line + "\n"})
    groups = read_groups([root])
    with pytest.raises(BadInput, match=rf"^spec\.yaml:1: a\[cpu\]: {expected}"):
        compose(only_cell(load(), groups), groups)
