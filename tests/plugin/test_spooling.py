"""The JUnit file that is written case by case is the one that pytest writes by itself."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

PLUGIN = """
from pathlib import Path
import pytest
from tunematrix.plugin.spooling import spool_junit

@pytest.hookimpl(tryfirst=True)
def pytest_collection(session):
    spool_junit(session.config, Path.cwd())
"""
TESTS = """
import pytest

@pytest.fixture
def broken():
    raise RuntimeError("in setup <&>")

@pytest.fixture
def breaks_later():
    yield
    raise RuntimeError("in teardown")

@pytest.mark.parametrize("word", ["plain", "<&>", "\\u2713 \\x1b[31m", "spooled-0 />"])
def test_passes(word, record_property):
    print(word)
    record_property("word", word)

def test_fails(record_property):
    record_property("figure", 0.5)
    assert 1 == 2, "\\u2713"

def test_is_skipped():
    pytest.skip("no reason")

@pytest.mark.xfail(reason="known")
def test_is_known():
    raise ValueError

def test_ends_early(broken):
    pass

def test_ends_late(breaks_later):
    pass

def test_fails_twice(breaks_later):
    assert False

def test_last():
    pass
"""
BROKEN = "import nothing_of_that_name\n"


def written(project: Project, *options: str) -> str:
    """What pytest writes about some tests, without times and addresses."""
    file = project.root / "junit.xml"
    file.unlink(missing_ok=True)
    own = ("-p", "no:cacheprovider", "--continue-on-collection-errors", f"--junitxml={file}")
    project.run([sys.executable, "-m", "pytest", *own, "tests", *options])
    text = file.read_text(encoding="utf-8")
    text = re.sub(r'(time|timestamp)="[^"]*"', "", text)
    return re.sub(r"0x[0-9a-f]+", "", text)


@pytest.mark.each_time(1)
@pytest.mark.parametrize("more", [[], ["-o", "junit_family=xunit1"], ["--maxfail=3"]])
def test_it_is_the_same_file(project: Project, more: list[str]) -> None:
    """With all that can become of a test, and with what was broken before any ran."""
    project.write("tests/test_some.py", TESTS)
    project.write("tests/test_broken.py", BROKEN)
    project.write("spools.py", PLUGIN)
    expected = written(project, *more)
    assert expected.count("<testcase") > 4
    assert written(project, "-p", "spools", *more) == expected
