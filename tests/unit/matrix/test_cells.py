from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tunematrix.errors import BadInput
from tunematrix.matrix.cells import Cell, expand, identity, repeats
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.paths import shipped_configs
from tunematrix.spec import Spec

Load = Callable[..., Spec]
MakeRoot = Callable[..., Path]

RATES = "learning_rates: {adaptive: 0.01, plain: 1.0}\n"
SMALL = {
    "cell.yaml": "defaults: [{recipe: sft}, {method: lora}, {quantizer: none}, {backend: cpu}]\n",
    "recipe/sft.yaml": "name: sft\n",
    "method/lora.yaml": "name: lora\ntrains_base: false\n" + RATES,
    "method/full.yaml": "name: full\ntrains_base: true\n" + RATES,
    "quantizer/none.yaml": "name: none\n",
    "quantizer/int4.yaml": "name: int4\ncapabilities:\n"
    "  backend: {cpu: true, cuda: true}\n"
    "  method: {lora: true, full: {reason: no gradient, link: 'https://e.org', raises: E}}\n"
    "unsupported: [{when: {backend: cuda, method: lora}, reason: crashes}]\n",
    "backend/cpu.yaml": "name: cpu\n",
    "backend/cuda.yaml": "name: cuda\n",
    "backend/mlx.yaml": "name: mlx\ncapabilities: {method: {lora: true}}\n",
}


@pytest.fixture
def small(make_root: MakeRoot) -> Groups:
    """Config groups in which every kind of no is declared."""
    return read_groups([make_root(SMALL)])


def refused(spec: Spec, groups: Groups) -> list[str]:
    """Return the lines with which a spec is refused."""
    with pytest.raises(BadInput) as caught:
        expand(spec, groups, ["cpu"])
    return str(caught.value).splitlines()[1:]


def test_one_cell_without_a_matrix(shipped: Groups, load: Load) -> None:
    """A spec without a matrix is one cell in an environment of one backend, all defaults."""
    cells, exclusions = expand(load(), shipped, ["cpu"])
    assert [cell.id for cell in cells] == ["a[cpu]"]
    assert cells[0].axes == shipped.defaults
    assert cells[0].overrides == {}
    assert exclusions == ()


def test_product_in_the_order_of_the_matrix(small: Groups, load: Load) -> None:
    """The backend comes first, then the axes as the spec has them, the last one fastest."""
    spec = load("matrix: {quantizer: [none, int4], method: [lora, full]}")
    cells, exclusions = expand(spec, small, ["cpu"])
    assert [cell.id for cell in cells] == [
        "a[cpu-none-lora]",
        "a[cpu-none-full]",
        "a[cpu-int4-lora]",
    ]
    assert [exclusion.cell.id for exclusion in exclusions] == ["a[cpu-int4-full]"]


def test_all_options_of_an_axis(shipped: Groups, load: Load) -> None:
    """The word all stands for every option there is; elsewhere's are no cells, nor exclusions."""
    spec = load("matrix: {quantizer: all}")
    found = {
        backend: {cell.axes["quantizer"] for cell in expand(spec, shipped, [backend])[0]}
        for backend in ("cpu", "mlx")
    }
    assert found["mlx"] == {"none", "mlx-int4", "mlx-int8"}
    assert found["cpu"] | found["mlx"] == set(shipped.axes["quantizer"])
    assert "mlx-int4" not in found["cpu"]
    assert expand(spec, shipped, ["cpu"])[1] == ()


def test_backends_are_those_of_the_environment(small: Groups, load: Load) -> None:
    """Without a backend axis a spec takes what there is; with one, what both have."""
    ids = [cell.id for cell in expand(load(), small, ["cpu", "cuda"])[0]]
    assert ids == ["a[cpu]", "a[cuda]"]
    narrowed = load("matrix: {method: [lora], backend: [cuda, mlx]}")
    assert [cell.id for cell in expand(narrowed, small, ["cpu", "cuda"])[0]] == ["a[cuda-lora]"]
    assert expand(narrowed, small, ["cpu"]) == ((), ())
    everywhere = load("matrix: {backend: all}")
    assert [cell.id for cell in expand(everywhere, small, ["mlx"])[0]] == ["a[mlx]"]


def test_overrides_say_what_differs(shipped: Groups, load: Load) -> None:
    """Defaults are left out, and so is an override that says what is the default anyway."""
    spec = load(
        "matrix: {method: [dora, lora], quantizer: [none]}\n"
        "overrides: {train.max_steps: 40, train.seed: 1, optimizer: sgd, train.max_grad_norm: 2}"
    )
    cells, _ = expand(spec, shipped, ["cpu"])
    assert cells[0].overrides == cells[1].overrides
    assert cells[0].overrides == {"train.seed": 1, "train.max_grad_norm": 2}
    assert cells[0].axes["optimizer"] == "sgd"


def test_exclusions_carry_the_declaration(small: Groups, load: Load) -> None:
    """An exclusion says why, where that is tracked, what would be raised, and who says so."""
    _, (exclusion,) = expand(load("matrix: {quantizer: [int4], method: [full]}"), small, ["cpu"])
    assert exclusion.cell.id == "a[cpu-int4-full]"
    assert exclusion.reason == "no gradient"
    assert exclusion.link == "https://e.org"
    assert exclusion.raises == "E"
    assert exclusion.declared_in == "quantizer/int4.yaml"


def test_every_kind_of_no_excludes(small: Groups, load: Load) -> None:
    """A combination, an unlisted option and a backend's own declaration all exclude."""
    spec = load("matrix: {quantizer: [none, int4], method: [lora, full]}")
    _, exclusions = expand(spec, small, ["cuda", "mlx"])
    assert {exclusion.cell.id: exclusion.reason for exclusion in exclusions} == {
        "a[cuda-int4-lora]": "crashes",
        "a[cuda-int4-full]": "no gradient",
        "a[mlx-none-full]": "method full is not declared in backend/mlx.yaml",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("matrix: {quantiser: [none]}", "matrix.quantiser: is not an axis; did you mean quantizer"),
        ("matrix: {zzz: all}", "matrix.zzz: is not an axis; it can be recipe, model, data, method"),
        ("matrix: {method: [lora, loar]}", "matrix.method[1]: loar is not an option of method; d"),
        ("matrix: {backend: [cpuu]}", "matrix.backend[0]: cpuu is not an option of backend; did "),
        ("matrix: {recipe: [sft]}", "matrix.recipe: can't be varied within a spec; name it in th"),
        (
            "matrix: {method: [lora]}\noverrides: {method: dora}",
            "overrides.method: is varied by the matrix (spec.yaml:3); remove one of the two",
        ),
        ("overrides: {method: loar}", "overrides.method: loar is not an option of method; did yo"),
        ("matrix: {method: ['']}", "matrix.method[0]: an empty text is not an option of method; i"),
        ("overrides: {method: 3}", "overrides.method: is an axis; name one option, or several"),
        ("overrides: {method: [a]}", "overrides.method: is an axis; name one option, or several"),
        ("overrides: {backend: cpu}", "overrides.backend: comes from the environment; restrict i"),
        ("overrides: {recipe: sft}", "overrides.recipe: has a field of its own; name it there"),
        ("matrix: {model: [checkpoint]}", "matrix.model[0]: checkpoint needs a folder; write its"),
        ("matrix: {model: all}", "matrix.model: checkpoint needs a folder; write its path instead"),
        ("matrix: {model: [./gone]}", "matrix.model[0]: there is no folder gone; paths are relati"),
        ('matrix: {model: ["a/\\0"]}', "matrix.model[0]: there is no folder a/"),
        ("matrix: {model: ['${x}/y']}", "matrix.model[0]: /"),
        (f"matrix: {{model: [{'x' * 300}]}}", "matrix.model[0]: xxx"),
        ("matrix: {model: [toy-lama]}", "matrix.model[0]: toy-lama is not an option of model; did"),
    ],
)
def test_what_is_wrong_in_the_axes(shipped: Groups, load: Load, text: str, expected: str) -> None:
    """Each wrong name is told with file, line and what was probably meant."""
    (problem,) = refused(load(text), shipped)
    line = 2 + len(text.splitlines())
    assert problem.startswith(f"spec.yaml:{line}: {expected}")


def test_unknown_recipe(shipped: Groups, load: Load) -> None:
    """A recipe without a config is refused where it is named."""
    spec = load("").model_copy(update={"recipe": "stf"})
    (problem,) = refused(spec, shipped)
    assert problem.startswith("spec.yaml:2: recipe: stf is not an option of recipe; did you mean")


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("{methd: lora}", "when.methd: is not an axis; did you mean method?"),
        ("{method: loar}", "when.method: loar is not an option of method; did you mean lora"),
        ("{method: dora}", "when.method: no cell of this spec has method dora; add it to the mat"),
        ("{method: [lora, dora]}", "when.method: no cell of this spec has method dora; add it to"),
    ],
)
def test_known_failures_that_could_never_apply(
    shipped: Groups, load: Load, when: str, expected: str
) -> None:
    """A known failure that matches no cell would be silently ignored, so it is refused."""
    entry = f"known_failures: [{{when: {when}, raises: E, reason: r, link: 'https://e.org'}}]"
    (problem,) = refused(load(f"matrix: {{method: [lora, full]}}\n{entry}"), shipped)
    assert problem.startswith(f"spec.yaml:4: known_failures[0].{expected}")


def test_all_problems_at_once(shipped: Groups, load: Load) -> None:
    """Axes, overrides and known failures are all looked at, whatever else is wrong."""
    found = refused(
        load(
            "matrix: {quantiser: [none], method: [loar]}\n"
            "overrides: {train.max_step: 1, method.rank: 3}\n"
            "known_failures: [{when: {data: txt}, raises: E, reason: r, link: 'https://e.org'}]"
        ),
        shipped,
    )
    assert [line.split(": ")[1] for line in found] == [
        "matrix.quantiser",
        "matrix.method[0]",
        "overrides.train.max_step",
        "known_failures[0].when.data",
    ]


def test_model_as_a_path(shipped: Groups, load: Load, tmp_path: Path) -> None:
    """A folder as model is the option checkpoint, relative to the spec, named by its folder."""
    (tmp_path / "runs" / "my model").mkdir(parents=True)
    spec = load("matrix: {model: [runs/my model, toy-llama]}")
    cells, _ = expand(spec, shipped, ["cpu"])
    assert [cell.id for cell in cells] == ["a[cpu-my_model]", "a[cpu-toy-llama]"]
    assert cells[0].axes["model"] == "checkpoint"
    assert cells[0].overrides == {"model.path": str(tmp_path / "runs" / "my model")}
    assert cells[1].overrides == {}


def test_model_as_a_path_without_a_separator(shipped: Groups, load: Load, tmp_path: Path) -> None:
    """A bare name is a path where such a folder is, and an absolute path or an override works."""
    (tmp_path / "trained").mkdir()
    for text in (
        "matrix: {model: [trained]}",
        f"matrix: {{model: [{tmp_path}/trained]}}",
        "overrides: {model: trained}",
    ):
        (cell,), _ = expand(load(text), shipped, ["cpu"])
        assert cell.axes["model"] == "checkpoint"
        assert cell.overrides == {"model.path": f"{tmp_path}/trained"}


def test_model_path_is_given_once(shipped: Groups, load: Load, tmp_path: Path) -> None:
    """A path from the matrix and one from the overrides would contradict each other."""
    (tmp_path / "m").mkdir()
    (problem,) = refused(load("matrix: {model: [./m]}\noverrides: {model.path: /x}"), shipped)
    assert problem == (
        "spec.yaml:4: overrides.model.path: is set by the matrix, which names a folder; remove it"
    )


def test_model_path_as_an_override(shipped: Groups, load: Load) -> None:
    """The option checkpoint by its name works when its path is set."""
    (cell,), _ = expand(
        load("matrix: {model: [checkpoint]}\noverrides: {model.path: /x}"), shipped, ["cpu"]
    )
    assert cell.axes["model"] == "checkpoint"
    assert cell.overrides == {"model.path": "/x"}


def test_two_points_of_one_name(shipped: Groups, load: Load, tmp_path: Path) -> None:
    """Two folders of one name would share a run directory, so they are refused."""
    for name in ("x", "y"):
        (tmp_path / name / "out").mkdir(parents=True)
    (problem,) = refused(load("matrix: {model: [x/out, y/out]}"), shipped)
    assert problem == (
        "spec.yaml:3: matrix: two points are called a[cpu-out]; rename a folder or split the spec"
    )


def test_added_axes(make_root: MakeRoot, load: Load) -> None:
    """An axis of a user's own has its default in every cell, and changes nothing else."""
    own = make_root(
        {"cell.yaml": "defaults: [{tracker: quiet}]\n", "tracker/quiet.yaml": "name: quiet\n"}
    )
    groups = read_groups([shipped_configs(), own])
    (cell,), _ = expand(load(), groups, ["cpu"])
    assert cell.axes["tracker"] == "quiet"
    assert cell.overrides == {}


def test_identity_finds_repeats(shipped: Groups, load: Load) -> None:
    """Cells that run the same are found across specs, whatever bounds they are held to."""
    first = expand(load("matrix: {method: [lora, dora]}"), shipped, ["cpu"])[0]
    spec = load("overrides: {train.max_steps: 40, method: dora}\nloss: {final_max: 3}")
    second = expand(spec.model_copy(update={"test_id": "b"}), shipped, ["cpu"])[0]
    other = expand(load("overrides: {train.max_steps: 61}"), shipped, ["cpu"])[0]
    cells = (*first, *second, *other)
    assert [[cell.id for cell in same] for same in repeats(cells)] == [["a[cpu-dora]", "b[cpu]"]]
    assert identity(first[0]) != identity(first[1])


def test_cells_are_values(shipped: Groups, load: Load) -> None:
    """The same spec expands to equal cells that can be kept in a set."""
    one: tuple[Cell, ...] = expand(load(), shipped, ["cpu"])[0]
    two: tuple[Cell, ...] = expand(load(), shipped, ["cpu"])[0]
    assert set(one) == set(two)
