"""docs/ says what the code does: every check, every field of a spec."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tunematrix.checks.registry import ENTRY_POINTS, MEAN, registry, relation_names
from tunematrix.cli import verbs_page
from tunematrix.configuration import reference
from tunematrix.environments.table import Environment
from tunematrix.evidence.readers import registry as log_readers
from tunematrix.matrix import plugins
from tunematrix.matrix.plan import plan
from tunematrix.project import read_project
from tunematrix.proof.faults import listing as faults
from tunematrix.report.checks_page import PLACE
from tunematrix.report.checks_page import as_markdown as checks_as_markdown
from tunematrix.report.rows import runs
from tunematrix.report.verified import as_markdown, placed
from tunematrix.results.store import Store
from tunematrix.spec import Spec, load_specs
from tunematrix.spec.bounds import Range

if TYPE_CHECKING:
    from tests.unit.conftest import Run

DOCS = Path(__file__).parents[2] / "docs"


def _rows(file: str) -> dict[str, list[str]]:
    """The other columns of every table row that begins with a name in backticks."""
    text = (DOCS / file).read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", text, re.MULTILINE)
    assert len(dict(rows)) == len(rows), "a name is described twice"
    return {name: rest.split(" | ") for name, rest in rows}


def test_checks(
    run: Run,
    preferring: Run,
    ranks: Run,
    commanding: Run,
    taught: Run,
    fetching: Run,
    exporting: Run,
    answering: Run,
    serving: Run,
) -> None:
    """Each name that a judgement can hold, no other, and for each what makes it fail."""
    told = run.leaving(stderr="deprecated")
    steps = (fetching, taught, exporting, answering, serving)
    runs = (run, preferring, told, ranks, commanding, *steps)
    judged = {name for judged in runs for name in judged.verdicts()}
    # Beside each difference stands its mean, which has no row of its own.
    of_relations = {name for name in relation_names() if not name.endswith(MEAN)}
    rows = _rows("checks.md")
    assert set(rows) == judged | of_relations
    assert {len(columns) for columns in rows.values()} == {3}


def test_the_tables_of_checks_are_what_the_checks_say() -> None:
    """`nox -s docs` writes them."""
    page = (DOCS / "checks.md").read_text(encoding="utf-8")
    assert placed(checks_as_markdown(registry()), page, PLACE) == page


def test_spec_fields() -> None:
    """Each field with its default and the very words of the schema, and no field that isn't."""
    fields = dict(_fields(Spec, ""))
    rows = _rows("specs.md")
    assert set(rows) == set(fields)
    for name, (default, meaning) in fields.items():
        kind, shown, described = rows[name]
        assert kind, name
        assert (shown, described) == (default, meaning), name


def test_the_examples_are_specs(tmp_path: Path) -> None:
    """Whoever copies one gets what it says, and its axes and settings are there."""
    text = (DOCS / "specs.md").read_text(encoding="utf-8")
    for number, example in enumerate(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)):
        (tmp_path / f"{number}.yaml").write_text(example)
    qlora, relation = specs = load_specs([tmp_path])
    assert (qlora.test_id, relation.test_id) == ("qlora", "same-accumulation")
    assert qlora.known_failures[0].check in _rows("checks.md")
    project = read_project(DOCS.parent, "cpu")
    assert len(plan(specs, project.groups, project.environment).relations) == 2


@pytest.mark.parametrize("file", sorted(path.name for path in DOCS.glob("*.md")))
def test_links_between_pages(file: str) -> None:
    """Files that a page points to are there."""
    text = (DOCS / file).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (DOCS / target).exists(), target


def test_the_keys_of_an_environment() -> None:
    """Each that a project may write, and no other."""
    written = {field.name for field in dataclasses.fields(Environment)} - {"name", "variant"}
    assert {name for name in _rows("your-project.md") if name.isidentifier()} == written


def _fields(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Dotted name to default and description; a range's own fields once, without a prefix."""
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}", (_default(field), field.description or "")
        inner = next(_sections(field.annotation), None)
        # Steps have configs of their own, which the page of all keys lists.
        if inner is not None and name != "steps":
            many = "[]" if inner is not field.annotation and "tuple" in str(field) else ""
            own = "" if inner is Range else f"{prefix}{name}{many}."
            yield from _fields(inner, own)


def _sections(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections(argument)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "of its fields" if isinstance(field.default_factory, type) else "see meaning"
    default = field.default
    if default is None:
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        return f"`[{', '.join(map(str, default))}]`"
    return f"`{default}`" if default != "" else "empty"


def test_the_readme_says_where_the_suite_has_run() -> None:
    """Its table is what the committed records give; `nox -s docs` writes it."""
    root = DOCS.parent
    project = read_project(root, "cpu")
    stores = [Store(file) for file in sorted((DOCS / "verified").glob("*.jsonl"))]
    verified = runs(record for store in stores for record in store.read())
    page = (root / "README.md").read_text(encoding="utf-8")
    assert placed(as_markdown(project.described, verified), page) == page


def test_the_page_of_all_verbs_and_the_exit_codes() -> None:
    """They are what the command line says; `nox -s docs` writes them."""
    assert (DOCS / "verbs.md").read_text(encoding="utf-8") == verbs_page.page()
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert placed(verbs_page.exit_codes(), readme, verbs_page.EXIT_CODES) == readme


def test_every_page_is_listed_in_the_readme() -> None:
    """The list is the navigation of the site; a page that isn't in it would be found by nobody."""
    _, _, listed = (DOCS.parent / "README.md").read_text(encoding="utf-8").partition("## Read on")
    pages = re.findall(r"\]\(docs/([\w-]+\.md)\)", listed)
    assert sorted(pages) == sorted(path.name for path in DOCS.glob("*.md"))


def test_the_groups_of_entry_points() -> None:
    """Each that is read, and no other."""
    groups = {*plugins.AXES, ENTRY_POINTS, log_readers.GROUP, faults.GROUP}
    assert {name for name in _rows("extending.md") if name.startswith("tunematrix.")} == groups


def test_the_page_of_all_keys() -> None:
    """It is what the models say; `nox -s docs` writes it."""
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == reference.page()
