"""Well-formed input with anything at any place: a located message, or a test that is one.

Hypothesis draws it and makes what fails as small as it can: the same trees for every change, others
by night. tests/unit/test_fuzz.py mutates the text instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.test_fuzz import OPTIONS, RECORDS, SPEC, WORDS, put, refused
from typer.testing import CliRunner

from tunematrix.checks.vocabulary import refuse_unknown_checks
from tunematrix.cli.app import app
from tunematrix.environments.table import read_environments
from tunematrix.errors import TunematrixError
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.matrix.plan import plan
from tunematrix.paths import shipped_configs
from tunematrix.results.store import Store
from tunematrix.spec.loader import load_specs

# How long a draw takes is the machine's affair.
SLOW = (HealthCheck.too_slow,)
EACH_TIME = settings(
    max_examples=400, deadline=None, derandomize=True, database=None, suppress_health_check=SLOW
)
BY_NIGHT = settings(max_examples=4000, deadline=None, suppress_health_check=SLOW)

Place = tuple[Any, Any]
"""A mapping or a list, and a key or an index in it."""

PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([word for word in WORDS if "\ud800" not in word])
    | st.text(max_size=20)
)
ANYTHING = st.recursive(
    PLAIN,
    lambda inside: (
        st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=8), inside, max_size=3)
    ),
    max_leaves=5,
)


def places(tree: Any) -> Iterator[Place]:
    """Yield each place in a tree, from the root on."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, below in list(inside):
        yield tree, key
        if isinstance(below, dict | list):
            yield from places(below)


@st.composite
def edited(draw: st.DrawFn, text: str) -> Any:
    """Draw a tree in which up to three places hold something else, or nothing, or one is new."""
    tree = yaml.safe_load(text)
    for _ in range(draw(st.integers(1, 3))):
        if not (known := list(places(tree))):
            return draw(ANYTHING)
        holder, key = draw(st.sampled_from(known))
        what = draw(st.sampled_from(("replaced", "left out", "added")))
        if what == "replaced":
            holder[key] = draw(ANYTHING)
        elif what == "left out":
            del holder[key]
        elif isinstance(holder, dict):
            holder[draw(st.text(max_size=12) | st.just(f"{key}s"))] = draw(ANYTHING)
        else:
            holder.append(draw(ANYTHING))
    return tree


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place for the file that is tried."""
    return tmp_path_factory.mktemp("trees")


@pytest.fixture(scope="module")
def shipped() -> Groups:
    """The shipped options."""
    return read_groups((shipped_configs(),))


@pytest.fixture(params=[EACH_TIME, pytest.param(BY_NIGHT, marks=pytest.mark.nightly)])
def how(request: pytest.FixtureRequest) -> settings:
    """How many are tried."""
    chosen: settings = request.param
    return chosen


def as_yaml(tree: Any) -> str:
    """Return a tree as text; it may refer to no other place in itself."""
    return yaml.dump(json.loads(json.dumps(tree, default=str)), allow_unicode=True)


def test_spec_trees(folder: Path, shipped: Groups, how: settings) -> None:
    """Refused with its file, or planned to something that has to be met."""
    cpu = read_environments(folder, [])["cpu"]

    @how
    @given(edited(SPEC))
    def try_one(tree: Any) -> None:
        file = put(folder / "spec.yaml", as_yaml(tree))

        def read() -> None:
            specs = load_specs([file])
            refuse_unknown_checks(shipped, specs)
            for cell in plan(specs, shipped, cpu).cells:
                steps = {"train.max_steps": 20, **cell.overrides}["train.max_steps"]
                assert isinstance(steps, int) and steps > 0
                assert not {"skip", "xfail", "skipif"} & {*cell.spec.markers}
                assert all(one.raises != "Exception" for one in cell.spec.known_failures)

        said = refused(read)
        assert not said or "spec.yaml" in said

    try_one()


def test_option_trees(folder: Path, how: settings) -> None:
    """A config group of the user's is read like a shipped one."""

    @how
    @given(
        st.sampled_from(OPTIONS).flatmap(
            lambda file: st.tuples(st.just(file), edited(file.read_text()))
        )
    )
    def try_one(drawn: tuple[Path, Any]) -> None:
        file, tree = drawn
        own = put(folder / "conf" / file.parent.name / file.name, as_yaml(tree))
        try:
            said = refused(lambda: read_groups((shipped_configs(), folder / "conf")))
        finally:
            own.unlink()
        assert not said or file.name in said

    try_one()


def test_record_trees(folder: Path, how: settings) -> None:
    """A line is a record that can be shown, or it is named."""
    with RECORDS.open(encoding="utf-8") as file:
        line = min((line for _, line in zip(range(20), file, strict=False)), key=len)

    @how
    @given(edited(line))
    def try_one(tree: Any) -> None:
        records = put(folder / "records.jsonl", json.dumps(tree, default=str) + "\n")
        if said := refused(Store(records).read):
            assert "records.jsonl" in said
            return
        shown = CliRunner().invoke(app, ["report", str(records), "--all"])
        assert shown.exception is None or isinstance(shown.exception, SystemExit | TunematrixError)
        assert "\x1b" not in shown.output

    try_one()
