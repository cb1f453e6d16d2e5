from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.version import getbase

from tunematrix.errors import BadInput
from tunematrix.matrix.cells import Cell, expand
from tunematrix.matrix.compose import compose
from tunematrix.matrix.grammar import hydra_override
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.paths import shipped_configs
from tunematrix.spec import Spec

Load = Callable[..., Spec]
MakeRoot = Callable[..., Path]


def only_cell(spec: Spec, groups: Groups) -> Cell:
    """Return the one cell of a spec on the CPU."""
    (cell,), _ = expand(spec, groups, ["cpu"])
    return cell


AWKWARD = [
    "",
    " ",
    "plain",
    "has space",
    "a=b",
    "a,b",
    "it's",
    'say "hi"',
    "back\\slash",
    "ends in \\",
    "\\'",
    "'\\\\'",
    "line\nbreak",
    "[a]",
    "{a: b}",
    "true",
    "NULL",
    "nan",
    "1e5",
    "007",
    "-1",
    "a#b",
    "a: b",
    "$x",
    "~home",
    "ünï",
    "/abs/path with space/x=1",
]


@pytest.mark.parametrize("text", AWKWARD)
def test_text_arrives_as_it_was(text: str) -> None:
    """Whatever a text looks like, Hydra's grammar gives it back unchanged, alone or in a list."""
    parser = OverridesParser.create()
    assert parser.parse_override(hydra_override("key", text)).value() == text
    assert parser.parse_override(hydra_override("key", [text, text])).value() == [text, text]


@pytest.mark.parametrize("value", [True, False, 0, -3, 10**18, 0.1, -1e-9, 1e22, 3.0])
def test_numbers_arrive_as_they_were(value: bool | int | float) -> None:
    """Numbers keep value and type."""
    parsed = OverridesParser.create().parse_override(hydra_override("key", value)).value()
    assert parsed == value
    assert type(parsed) is type(value)


def test_whole_configuration(shipped: Groups, load: Load) -> None:
    """Options, overrides and interpolations all arrive in the plain dict."""
    spec = load(
        "matrix: {quantizer: [hqq-int4], optimizer: [sgd]}\n"
        "overrides: {train.max_steps: 3, method.implementation.modules_to_save: [lm_head, 'a b']}"
    )
    config = compose(only_cell(spec, shipped), [shipped_configs()])
    quantizer, method, train = (config[name] for name in ("quantizer", "method", "train"))
    assert isinstance(quantizer, dict)
    assert isinstance(method, dict)
    assert isinstance(train, dict)
    assert quantizer["name"] == "hqq-int4"
    assert train["max_steps"] == 3
    assert train["loss_on"] == "all"
    assert isinstance(train["learning_rate"], float)
    implementation = method["implementation"]
    assert isinstance(implementation, dict)
    assert implementation["modules_to_save"] == ["lm_head", "a b"]
    assert set(config) == set(shipped.axes) | set(shipped.plain)


def test_awkward_model_path(shipped: Groups, load: Load, tmp_path: Path) -> None:
    """A folder whose name is full of grammar is handed on unharmed."""
    folder = tmp_path / "it's a=1, [x] {y} \\"
    folder.mkdir()
    spec = Spec(test_id="a", recipe="sft", matrix={"model": (str(folder),)})
    config = compose(only_cell(spec, shipped), [shipped_configs()])
    model = config["model"]
    assert isinstance(model, dict)
    assert model["path"] == str(folder)


def test_user_folder_with_an_axis_of_its_own(make_root: MakeRoot, load: Load) -> None:
    """Options and axes of a second folder compose, wherever that folder lies."""
    own = make_root(
        {
            "cell.yaml": "defaults: [{tracker: quiet}]\n",
            "tracker/quiet.yaml": "name: quiet\nlevel: 1\n",
            "tracker/loud.yaml": "name: loud\nlevel: 2\n",
            "method/mine.yaml": "name: mine\nlearning_rates: {adaptive: 0.5, plain: 1.0}\n",
        },
        "own, it's mine",
    )
    roots = [shipped_configs(), own]
    spec = load("matrix: {method: [mine], tracker: [loud]}\noverrides: {tracker.level: 3}")
    config = compose(only_cell(spec, read_groups(roots)), roots)
    assert config["tracker"] == {"name": "loud", "level": 3}
    train = config["train"]
    assert isinstance(train, dict)
    assert train["learning_rate"] == 0.5


SMALL = {
    "cell.yaml": "defaults: [{recipe: sft}, {backend: cpu}, _self_]\n",
    "recipe/sft.yaml": "name: sft\n",
    "backend/cpu.yaml": "name: cpu\n",
}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("rate: ???\nother:\n  deep: ???", r"other\.deep, rate: left open \(\?\?\?\); set it in"),
        ("rate: ${gone.key}", r"rate: Interpolation key 'gone\.key' not found; correct the config"),
        ("rate: ${nothing:1}", r"rate: Unsupported interpolation type nothing; correct the confi"),
        ("rate: ${open", r"rate: .*; correct the config"),
    ],
)
def test_broken_configs(make_root: MakeRoot, load: Load, line: str, expected: str) -> None:
    """A missing value or a broken interpolation names the spec, the cell and the key."""
    root = make_root(SMALL | {"cell.yaml": SMALL["cell.yaml"] + line + "\n"})
    cell = only_cell(load(), read_groups([root]))
    with pytest.raises(BadInput, match=rf"^spec\.yaml:1: a\[cpu\]: {expected}"):
        compose(cell, [root])


def test_what_hydra_refuses(load: Load, shipped: Groups) -> None:
    """An option that is gone by the time it is composed is bad input, not a traceback."""
    cell = Cell("a[cpu]", load(), shipped.defaults, ("method=gone",))
    with pytest.raises(BadInput, match=r"a\[cpu\]: .*Could not find 'method/gone'.*; correct the"):
        compose(cell, [shipped_configs()])


def test_hydra_is_left_as_it_was(shipped: Groups, load: Load, make_root: MakeRoot) -> None:
    """A program that uses Hydra itself can compose cells in between, also when that fails."""
    cell = only_cell(load(), shipped)
    compose(cell, [shipped_configs()])
    assert not GlobalHydra.instance().is_initialized()
    own = make_root({"theirs.yaml": "x: 1\n"})
    with initialize_config_dir(str(own), version_base="1.2"):
        compose(cell, [shipped_configs()])
        with pytest.raises(BadInput):
            compose(Cell("a[cpu]", cell.spec, cell.axes, ("method=gone",)), [shipped_configs()])
        assert hydra_compose("theirs") == {"x": 1}
        assert str(getbase()) == "1.2"


def test_composing_in_threads(shipped: Groups, load: Load) -> None:
    """Cells composed at the same time don't get into each other's way."""
    cells, _ = expand(load("matrix: {optimizer: [adamw, sgd], method: all}"), shipped, ["cpu"])
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # so that they would, if they could
    try:
        with ThreadPoolExecutor(4) as pool:
            composed = list(pool.map(lambda cell: compose(cell, [shipped_configs()]), cells))
    finally:
        sys.setswitchinterval(usual)
    for cell, config in zip(cells, composed, strict=True):
        method, optimizer = config["method"], config["optimizer"]
        assert isinstance(method, dict)
        assert isinstance(optimizer, dict)
        assert (method["name"], optimizer["name"]) == (cell.axes["method"], cell.axes["optimizer"])
    assert not GlobalHydra.instance().is_initialized()
