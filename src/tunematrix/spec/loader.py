"""Spec files → frozen specs; everything that is wrong in all files is reported at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.json_schema import GenerateJsonSchema

from tunematrix.configuration.reference import SchemaWithoutNull
from tunematrix.errors import BadInput, NothingTested
from tunematrix.paths import shown
from tunematrix.spec.explain import explained
from tunematrix.spec.model import COMMAND, PIPELINE, Source, Spec
from tunematrix.spec.problems import Problem, place, refuse
from tunematrix.spec.yaml_tree import Tree, Value, empty_entries, read_tree

_COMMAND_ONLY = (
    "project_dir",
    "config",
    "trainer",
    "dynamic_args",
    "inference",
    "finalize",
    "watch",
)

_SUFFIXES = (".yaml", ".yml")
_LOOKED_AT = 2000
"""Files behind a link."""
_BEGINNING = 1 << 16
"""Bytes of one of them."""


def find_specs(folder: Path) -> tuple[Path, ...]:
    """Return every YAML file below a folder, in the order of their names.

    Raises:
        BadInput: there is no such folder, or specs in it would be passed over: their file is called
            otherwise, or they are behind a link.
        NothingTested: it holds no spec.
    """
    if not folder.is_dir():
        raise BadInput(f"{shown(folder)}: there is no such folder; check the path of the specs")
    files = sorted(folder.rglob("*"))
    found = _specs_among(files)
    for path in files:
        if path.is_symlink() and path.is_dir() and _holds_a_spec(path):
            text = "links to a folder with specs, which isn't followed; name that folder itself"
            raise BadInput(f"{shown(path)}: {text}")
    if odd := [path for path in files if path.suffix.lower() in _SUFFIXES and path not in found]:
        text = f"would be passed over; call it {odd[0].stem}{odd[0].suffix.lower()}"
        raise BadInput(f"{shown(odd[0])}: {text}")
    if not found:
        raise NothingTested(
            f"{shown(folder)}: holds no spec, so nothing would be tested; "
            "add a .yaml file or name another folder"
        )
    return tuple(found)


def load_specs(paths: Iterable[Path]) -> tuple[Spec, ...]:
    """Read specs from files, and from folders with all that is below them.

    Raises:
        BadInput: something is wrong; the text lists all of it, a line each.
        NothingTested: no path was given, or a folder holds no spec.
    """
    files = [file for path in paths for file in _files(path)]
    if not files:
        raise NothingTested("no spec was given, so nothing would be tested; name one")
    for file in files:
        if not (name := shown(file)).isprintable():  # pytest writes it to the terminal as it is
            name = ascii(name)[1:-1]
            raise BadInput(f"{name}: has characters in its name that don't show; rename it")
    trees = [read_tree(file) for file in dict.fromkeys(files)]
    specs = [_validated(tree) for tree in trees]
    problems = [problem for tree in trees for problem in _raw_problems(tree)]
    problems += [problem for spec in specs if not isinstance(spec, Spec) for problem in spec]
    refuse([*problems, *_same_names(trees)])
    return tuple(spec for spec in specs if isinstance(spec, Spec))


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a spec file, for editors."""
    schema = Spec.model_json_schema(schema_generator=SchemaWithoutNull)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}


def _specs_among(files: Iterable[Path]) -> list[Path]:
    return [path for path in files if path.suffix in _SUFFIXES]


def _holds_a_spec(folder: Path) -> bool:
    """Whether a spec is somewhere below; of a large folder, such as one of data, only some is."""
    some = islice(folder.rglob("*"), _LOOKED_AT)
    return any(_may_be_spec(path) for path in some if path.suffix in _SUFFIXES)


def _may_be_spec(file: Path) -> bool:
    try:
        with file.open("rb") as content:
            return b"test_id" in content.read(_BEGINNING)
    except OSError:
        return True  # better refused than passed over


def _files(path: Path) -> tuple[Path, ...]:
    is_folder = path.is_dir() and path.suffix not in _SUFFIXES
    return find_specs(path) if is_folder else (path,)


def _validated(tree: Tree) -> Spec | tuple[Problem, ...]:
    if tree.problems and not tree.data:
        return ()
    try:
        spec = Spec.model_validate(tree.data)
    except ValidationError as error:
        empty = set(empty_entries(tree.data, ()))
        found = explained(tree, Spec, error)
        return tuple(problem for problem in found if problem.route not in empty)
    return spec.written_in(Source(tree.path, tree.lines))


def _raw_problems(tree: Tree) -> Iterator[Problem]:
    """Yield what can be told from the keys alone, whatever else is wrong in the file."""
    yield from tree.problems
    for route in empty_entries(tree.data, ()):
        yield tree.problem(route, "is empty; give it a value or remove the line")
    if tree.data:
        yield from _form_problems(tree)


def _form_problems(tree: Tree) -> Iterator[Problem]:
    """Yield contradictions between the two forms: `recipe`, or `project_dir` and `config`."""
    data = tree.data
    given = [name for name in _COMMAND_ONLY if name in data]
    if data.get("recipe") == PIPELINE and "inference" in given:
        given.remove("inference")
        yield from _inference_problems(tree)
    if data.get("recipe", COMMAND) != COMMAND:
        for name in given:
            text = f"belongs to the recipe command, and {data['recipe']} would ignore it; remove it"
            yield tree.problem((name,), text)
    elif "recipe" in data:
        return
    elif not given:
        text = "is missing; name what a run does (sft), or give project_dir and config"
        yield tree.problem(("recipe",), text)
    else:
        for name in ("project_dir", "config"):
            if name not in data:
                text = "is missing; a spec without a recipe runs a trainer's command and needs it"
                yield tree.problem((name,), text)


def _inference_problems(tree: Tree) -> Iterator[Problem]:
    """Yield what keeps a pipeline from serving a completion."""
    steps = tree.data.get("steps")
    if not isinstance(steps, Mapping):
        return
    serve = steps.get("serve")
    if isinstance(serve, Mapping) and "inference" in serve:
        yield tree.problem(("inference",), "stands in the step serve as well; remove one of them")
    if not steps.keys() & {"sft", "dpo", "finalize", "serve"}:
        text = "needs a step that leaves a model to serve; add sft, dpo, finalize or serve"
        yield tree.problem(("inference",), text)


def _same_names(trees: Iterable[Tree]) -> Iterator[Problem]:
    first: dict[Value, Tree] = {}
    for tree in trees:
        name = tree.data.get("test_id")
        if not isinstance(name, str):
            continue
        other = first.setdefault(name, tree)
        if other is not tree:
            there = place(other.path, other.line(("test_id",)))
            yield tree.problem(("test_id",), f"{name} is also the name of {there}; rename one")
