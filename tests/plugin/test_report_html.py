"""The page of a run: written at its end, and by `tunematrix report --html`; it decides nothing."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project, Verb

PAGE = ".tunematrix/plain/report.html"


def shown(page: Path) -> dict[str, Any]:
    """What a page holds."""
    (packed,) = re.findall(r'octet-stream">(.*?)</script>', page.read_text(encoding="utf-8"))
    data = json.loads(gzip.decompress(base64.b64decode(packed)))
    assert isinstance(data, dict)
    return data


@pytest.fixture(scope="module")
def ran(new_project: NewProject) -> Project:
    """Two runs of two cells, the second with the page of the first in place."""
    project = new_project()
    project.spec("good", "succeed", quantizers="[plain, tiny-int4]")
    for _ in range(2):
        run = project.pytest()
        assert run.code == 0
        assert re.search(rf"^page: {PAGE}\nmore: ", run.text, re.MULTILINE)
    return project


def test_a_run_leaves_a_page(ran: Project) -> None:
    """Of its own cells, and what they came to before; with the commands that a failure names."""
    data = shown(ran.root / PAGE)
    names = {cell["id"] for cell in data["cells"]}
    assert names == {"good[plain-plain]", "good[plain-tiny-int4]"}
    for cell in data["cells"]:
        assert [point["outcome"] for point in cell["past"]] == ["passed"]
        assert "run -e plain 'specs/good.yaml::" in cell["again"]
    assert not list(ran.root.glob(".tunematrix/plain/.report*"))


def test_a_page_on_request(ran: Project, verb: Verb) -> None:
    """Of an environment with its history, or of files."""
    code, text = verb(ran, "report", "-e", "plain", "--html", "here/page.html")
    assert (code, text) == (0, "2 cells and relations are in here/page.html\n")
    verb(ran, "history")
    (ran.root / ".tunematrix/plain/results.jsonl").rename(ran.root / "records.jsonl")
    code, text = verb(ran, "report", "-e", "plain", "--html", "page.html")
    assert code == 0  # from the history alone
    assert shown(ran.root / "page.html")["cells"] == shown(ran.root / "here/page.html")["cells"]
    code, text = verb(ran, "report", "records.jsonl", "--html", "page.html")
    assert (code, text) == (0, "2 cells and relations are in page.html\n")
    code, text = verb(ran, "report", "gone.jsonl", "--html", "page.html")
    assert code == 4 and "there is no file gone.jsonl" in text
    (ran.root / ".tunematrix/history.sqlite").unlink()
    code, text = verb(ran, "report", "-e", "plain", "--html", "other.html")
    assert code == 5 and "no record to show" in text and not (ran.root / "other.html").exists()
    (ran.root / "records.jsonl").rename(ran.root / ".tunematrix/plain/results.jsonl")


def test_a_page_that_cannot_be_written_fails_no_run(project: Project) -> None:
    """Nor do earlier records that can't be read; both are told."""
    project.spec("good", "succeed")
    project.write(f"{PAGE}/in_the_way", "")
    run = project.pytest()
    assert run.code == 0
    assert f"page: none: can't write {project.root / PAGE}: " in run.text.replace("\n", " ")
    records = project.root / ".tunematrix/plain/results.jsonl"
    records.write_text("what was this?\n" + records.read_text())
    run = project.pytest()
    assert run.code == 0
    assert "results.jsonl:1: not a record" in run.text.replace("\n", " ")
