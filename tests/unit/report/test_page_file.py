"""The file of a page: it asks for nothing, runs nothing of others, and is replaced at once."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import threading
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tunematrix.errors import MachineProblem, NothingTested
from tunematrix.report.html.gathering import gather
from tunematrix.report.html.page import SCRIPTS, page_of, rendered, write_page
from tunematrix.report.html.sources import lines_of
from tunematrix.results.store import Store

COMMITTED = Path(__file__).parents[3] / "docs/verified"
MLX = COMMITTED / "mlx-linux-x86-64-amd-epyc.jsonl"
# What takes HTML or code from a text.
SINKS = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc"
    r"|DOMParser|createContextualFragment|setTimeout\(\s*[\"'`]|javascript:"
)
ELSEWHERE = re.compile(r"(?:https?:)?//(?!www\.w3\.org/2000/svg)[\w-]+\.\w+|@import|url\(")


def assets() -> dict[str, str]:
    """All files that a page is made of."""
    folder = files("tunematrix.report.html") / "assets"
    return {one.name: one.read_text(encoding="utf-8") for one in folder.iterdir()}


def data_of(html: str) -> dict[str, Any]:
    """The payload of a page."""
    (packed,) = re.findall(
        r'<script id="data" type="application/octet-stream">(.*?)</script>', html
    )
    data = json.loads(gzip.decompress(base64.b64decode(packed)))
    assert isinstance(data, dict)
    return data


def test_all_scripts_are_used() -> None:
    """And nothing else lies there."""
    assert set(assets()) == {*SCRIPTS, "page.html", "page.css"}


@pytest.mark.parametrize("pattern", [SINKS, ELSEWHERE], ids=["html", "network"])
def test_texts_stay_texts_and_nothing_is_asked_for(pattern: re.Pattern[str]) -> None:
    """No part of a page turns a text into HTML or code, or names a place in a network."""
    assert {
        name: pattern.findall(text) for name, text in assets().items() if pattern.search(text)
    } == {}


@pytest.mark.parametrize(
    "planted",
    [
        "node.innerHTML = text",
        "node.insertAdjacentHTML('beforeend', text)",
        "document.write(text)",
        "eval(text)",
        "new Function(text)",
        "setTimeout('go()', 1)",
        "import 'https://cdn.example.org/x.js'",
        "@import 'x.css'",
        "background: url(x.png)",
        'src="//cdn.example.org"',
    ],
)
def test_a_planted_line_would_be_noticed(planted: str) -> None:
    """Or the test above shows nothing."""
    assert SINKS.search(planted) or ELSEWHERE.search(planted)


def test_the_policy_lets_in_this_style_and_this_script(tmp_path: Path) -> None:
    """Their hashes are those of the text between the tags."""
    file = tmp_path / "page.html"
    assert write_page(file, [lines_of(MLX)]) == len(Store(MLX).read())
    html = file.read_text(encoding="utf-8")
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in html
    assert "default-src 'none'" in html
    assert html.count("<script") == 2 and not re.search(r'<(?:link|img|iframe)|src="', html)


def test_the_data_can_be_read_back(tmp_path: Path) -> None:
    """It is JSON, whatever is in it: nan and infinity too."""
    record = replace(
        Store(MLX).read()[0], metrics={"seconds": float("nan")}, losses=((1, float("inf")),)
    )
    Store(tmp_path / "odd.jsonl").append(record)
    html = rendered(page_of(gather([lines_of(tmp_path / "odd.jsonl")]))).decode()
    (cell,) = data_of(html)["cells"]
    assert cell["figures"] == {} and cell["losses"] == [[1, None]]


def test_two_writers_at_once(tmp_path: Path) -> None:
    """Whoever opens the page sees a whole one, and no draft is left."""
    file = tmp_path / "deep/page.html"
    write_page(file, [lines_of(MLX)])
    whole = re.compile(r"<!doctype html>.*</html>\n", re.DOTALL)
    stop, torn = threading.Event(), list[str]()

    def watch() -> None:
        while not stop.is_set():
            text = file.read_text(encoding="utf-8")
            if not whole.fullmatch(text):
                torn.append(text[-100:])

    watcher = threading.Thread(target=watch)
    writers = [threading.Thread(target=write_page, args=(file, [lines_of(MLX)])) for _ in range(4)]
    for thread in (watcher, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    watcher.join()
    assert not torn
    assert [one.name for one in file.parent.iterdir()] == ["page.html"]


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    """The text says what to do, and what was there stays."""
    (tmp_path / "file").write_text("here")
    with pytest.raises(MachineProblem, match=r"can't write .*; give a place that can be written"):
        write_page(tmp_path / "file/page.html", [lines_of(MLX)])
    (tmp_path / "page.html").mkdir()
    with pytest.raises(MachineProblem, match="can't write"):
        write_page(tmp_path / "page.html", [lines_of(MLX)])
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "page.html"]


def test_without_records_there_is_no_page(tmp_path: Path) -> None:
    """An empty page would look like a good one."""
    with pytest.raises(NothingTested, match="no record to show"):
        write_page(tmp_path / "page.html", [lines_of(tmp_path / "gone.jsonl")])
    assert not list(tmp_path.iterdir())


def test_two_thousand_cells_are_a_small_file(tmp_path: Path) -> None:
    """Under 15 MB, by far."""
    lines = MLX.read_text(encoding="utf-8").splitlines()
    file = tmp_path / "many.jsonl"
    texts = (
        line.replace(']", "spec"', f']@{seed}", "spec"', 1)
        for seed in range(2000 // len(lines) + 1)
        for line in lines
    )
    file.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    write_page(tmp_path / "page.html", [lines_of(file)])
    assert (tmp_path / "page.html").stat().st_size < 5e6
