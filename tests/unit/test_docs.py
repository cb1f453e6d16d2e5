"""docs/ says what the code does: every check, every field of a spec."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.unit.watched import honest_process

from tunematrix.checks.registry import ENTRY_POINTS, MEAN, registry, relation_names
from tunematrix.cli import verbs_page
from tunematrix.configuration import reference
from tunematrix.configuration.trainer import Trainer
from tunematrix.environments.table import Environment
from tunematrix.evidence.readers import registry as log_readers
from tunematrix.matrix import plugins
from tunematrix.matrix.plan import plan
from tunematrix.project import read_project
from tunematrix.proof.faults import listing as faults
from tunematrix.report import specs_page
from tunematrix.report.checks_page import PLACE
from tunematrix.report.checks_page import as_markdown as checks_as_markdown
from tunematrix.report.rows import runs
from tunematrix.report.verified import as_markdown, placed
from tunematrix.results.store import Store
from tunematrix.spec import Spec, load_specs

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
    watching: Run,
) -> None:
    """Each name that a judgement can hold, no other, and for each what makes it fail."""
    told = run.leaving(stderr="deprecated")
    steps = (fetching, taught, exporting, answering, serving)
    both = watching.leaving(watched=tuple(honest_process(rank, 2, steps=30) for rank in (0, 1)))
    best = run.configured(train={"load_best": True})
    compiled = run.configured(train={"compile": "aot_eager"})
    ranges = {"code": "range", "bits": 4, "group_size": 128}
    ranged = run.configured(quantizer={"theory": {"rounding": ranges}})
    runs = (run, best, compiled, ranged, preferring, told, ranks, commanding, both, *steps)
    judged = {name for judged in runs for name in judged.verdicts()}
    # Beside each difference stands its mean, which has no row of its own.
    of_relations = {name for name in relation_names() if not name.endswith(MEAN)}
    rows = _rows("checks.md")
    assert set(rows) == judged | of_relations
    assert {len(columns) for columns in rows.values()} == {3}


def test_the_checks_of_watching() -> None:
    """Each has its line in the table of severities, and no other."""
    names = {name for name in _rows("watch.md") if name.startswith("watched")}
    assert names == {check.name for check in registry().in_group("watch")}


def test_the_tables_of_checks_are_what_the_checks_say() -> None:
    """`nox -s docs` writes them."""
    page = (DOCS / "checks.md").read_text(encoding="utf-8")
    assert placed(checks_as_markdown(registry()), page, PLACE) == page


def test_spec_fields() -> None:
    """Each field once, in the words of the schema; `nox -s docs` writes them."""
    text = (DOCS / "specs.md").read_text(encoding="utf-8")
    assert specs_page.page(text) == text
    assert {*Spec.model_fields, "loss.final_max", "relation.planted[].arm"} <= set(
        _rows("specs.md")
    )


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
    written = {field.name for field in dataclasses.fields(Environment)} - {
        "name",
        "variant",
        "parts",
    }
    assert {name for name in _rows("your-project.md") if name.isidentifier()} == written


def test_the_readme_says_where_the_suite_has_run() -> None:
    """Its table is what the committed records give; `nox -s docs` writes it."""
    root = DOCS.parent
    project = read_project(root, "cpu")
    stores = [Store(file) for file in sorted((DOCS / "verified").glob("*.jsonl"))]
    verified = runs(record for store in stores for record in store.read())
    page = (root / "README.md").read_text(encoding="utf-8")
    assert placed(as_markdown(project.described, verified), page) == page


def test_how_large_the_suite_is() -> None:
    """The glossary's figures are those of the plan, and of what a plain run collects of it."""
    project = read_project(DOCS.parent, "cpu")
    suite = plan(load_specs(project.spec_folders), project.groups, project.environment)
    relations = [one for one in suite.relations if "nightly" not in one.spec.markers]
    cells = {one.id for one in suite.cells if "nightly" not in one.spec.markers}
    cells |= {arm.cell.id for one in relations for arm in one.arms}
    whole = f"{len(suite.cells)} cells, {len(suite.relations)} relations"
    text = (DOCS / "glossary.md").read_text(encoding="utf-8")
    assert f"{whole} and {len(suite.exclusions)} exclusions on `cpu`" in text
    assert f"`nox -s cpu` has {len(cells)} cells and {len(relations)} relations." in text


def test_the_page_of_all_verbs_and_the_exit_codes() -> None:
    """They are what the command line says; `nox -s docs` writes them."""
    page = (DOCS / "verbs.md").read_text(encoding="utf-8")
    assert page == verbs_page.page()
    verbs = re.findall("^## (.+)$", page, re.MULTILINE)
    assert verbs[:5] == ["init", "plan", "run", "report", "watch"]
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert placed(verbs_page.exit_codes(), readme, verbs_page.EXIT_CODES) == readme


def test_every_page_is_listed_in_the_readme() -> None:
    """The list is the navigation of the site; a page that isn't in it would be found by nobody."""
    _, _, listed = (DOCS.parent / "README.md").read_text(encoding="utf-8").partition("## Read on")
    pages = re.findall(r"\]\(docs/([\w-]+\.md)\)", listed)
    assert sorted(pages) == sorted(path.name for path in DOCS.glob("*.md"))


def test_the_keys_of_a_trainer() -> None:
    """Each that the table of a trainer may have, and no other."""
    keys = {name for name, columns in _rows("trainers.md").items() if len(columns) == 2}
    assert keys == set(Trainer.model_fields)


@pytest.mark.parametrize("page", ["start.md", "tutorial.md", "your-project.md"])
def test_words_in_italics_are_in_the_glossary(page: str) -> None:
    """As the page says; in the plural, too."""
    text = re.sub(r"```.*?```", "", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    words = set(re.findall(r"(?<![*\w])\*([^*\n]+)\*(?![*\w])", text)) - {"italics"}
    explained = set(
        re.findall(r"\*\*(.+?)\*\*", (DOCS / "glossary.md").read_text(encoding="utf-8"))
    )
    assert words > set()
    assert {word for word in words if not explained & {word, word.removesuffix("s")}} == set()


def test_the_groups_of_entry_points() -> None:
    """Each that is read, and no other."""
    groups = {*plugins.AXES, ENTRY_POINTS, log_readers.GROUP, faults.GROUP}
    assert {name for name in _rows("extending.md") if name.startswith("tunematrix.")} == groups


def test_the_page_of_all_keys() -> None:
    """It is what the models say; `nox -s docs` writes it."""
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == reference.page()
