"""One browser for all tests, and the page that most of them look at."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tunematrix.checks.verdict import Verdict
from tunematrix.report.html.gathering import gather
from tunematrix.report.html.page import page_of, rendered
from tunematrix.report.html.payload import Page
from tunematrix.report.html.sources import lines_of
from tunematrix.results.record import Record
from tunematrix.results.store import Store

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VERIFIED = Path(__file__).parents[2] / "docs/verified"
AMD, XEON = "AMD EPYC", "Intel(R) Xeon(R) Processor"
OLDER = ("20261128-2100-old", "20261128-2200-old", "20261128-2300-old")
NEWEST = "20261129-0900-new"
FAILED = "lora[cpu-lora-hqq-int4]"
WHY = "gradient: 0.31 % of the norm off; likely another loss"
VIEWS = ("matrix", "cells", "relations", "compare", "parity")
HERE = {"a.environment": "cpu", "a.hardware": XEON}
THIS = f"cpu/{NEWEST}/{FAILED}"
Opened = Callable[..., Any]


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """A browser without a window; it ends before other tests look at what runs below them."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on PATH")
    options = ["--no-sandbox"] if os.geteuid() == 0 else []  # which Chromium refuses root
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found, args=options)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """All records of docs/verified, and later runs of one machine; one cell fails in the last."""
    file = tmp_path_factory.mktemp("records") / "later.jsonl"
    chance = random.Random(0)
    (xeon,) = VERIFIED.glob("cpu-*xeon*.jsonl")
    records = Store(xeon).read()
    failing = [record for record in records if record.cell_id == FAILED]
    with file.open("w", encoding="utf-8") as out:
        for name in [*OLDER, NEWEST]:
            # A few cells are enough to have a past.
            for record in records if name == NEWEST else [*records[:40], *failing]:
                seconds = record.metrics.get("seconds", 0.0) * chance.uniform(0.9, 1.1)
                metrics = {**record.metrics, "seconds": seconds} if seconds else record.metrics
                later = replace(record, run_id=name, metrics=metrics)
                if record.cell_id == FAILED:
                    later = _failing(later) if name == NEWEST else _curved(later)
                out.write(json.dumps(later.to_json()) + "\n")
    return [*sorted(VERIFIED.glob("*.jsonl")), file]


def _curved(record: Record) -> Record:
    losses = tuple((step, 5.0 / step + 0.5) for step in range(1, 41))
    figures = {"entropy_floor": 0.4, "heldout_loss": 0.7}
    return replace(record, losses=losses, metrics={**record.metrics, **figures})


def _failing(record: Record) -> Record:
    checks = tuple(
        Verdict(c.name, "failed", 0.0031, c.bound, c.unit, WHY) if c.name == "gradient" else c
        for c in record.checks
    )
    more: dict[str, Any] = {"reason": WHY, "stderr": "Traceback (most recent call last):\nKilled"}
    return replace(_curved(record), outcome="failed", checks=checks, **more)


@pytest.fixture(scope="session")
def payload(sources: list[Path]) -> Page:
    """What the page holds."""

    def bands(record: Record) -> dict[str, tuple[float, float]]:
        return {"heldout_loss": (0.6, 0.65)} if record.losses else {}

    return page_of(gather([lines_of(file) for file in sources]), bands=bands)


@pytest.fixture(scope="session")
def report(payload: Page, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's file."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_bytes(rendered(payload))
    return file


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Opened]:
    """Opens the page at an address behind the #; no test may leave an error in its console."""
    with watched(browser, report) as open_page:
        yield open_page


@contextmanager
def watched(browser: Any, file: Path) -> Iterator[Opened]:
    """The same for any page."""
    contexts, errors = [], list[str]()

    def dismiss(dialog: Any) -> None:
        errors.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def note(request: Any) -> None:
        if _leaves(request.url):
            errors.append(f"it asked for {request.url}")

    def open_page(address: str = "", width: int = 1440, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: errors.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", dismiss)
        page.on("request", note)
        page.goto(f"{file.as_uri()}#{address}")
        page.wait_for_selector("html[data-ready]", timeout=20_000)
        return page

    try:
        yield open_page
    finally:
        for context in contexts:
            context.close()
    assert not errors


def settle(page: Any) -> None:
    """Let a page draw what its address names: browsers tell it of a new one a little later."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")


def visit(page: Any, address: str) -> None:
    """Go to another address behind the #."""
    page.evaluate("(address) => { location.hash = address; }", address)
    settle(page)


def _leaves(url: str) -> bool:
    """Whether something is asked for that isn't in the file."""
    return not url.startswith(("file:", "blob:", "data:"))


def address(**options: str) -> str:
    """What stands behind the #."""
    return urlencode(options)


def figures(text: str) -> Counter[str]:
    """Symbols and their counts in the text of a square."""
    return Counter({symbol: int(count) for symbol, count in re.findall(r"(\S)\s*(\d+)", text)})
