"""Known failures and probes are strict: they hold exactly as declared, or they fail the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project, Run

LINK = "https://example.org/1"


def declared(expectation: str) -> str:
    """The known failure of every cell of a spec."""
    when = "when: {quantizer: plain}"
    return f"known_failures: [{{{when}, {expectation}, reason: a known bug, link: '{LINK}'}}]\n"


@pytest.fixture(scope="module")
def ran(new_project: NewProject) -> tuple[Project, Run]:
    """A quiet run with known failures that hold and that don't, and a JUnit file of its own."""
    project = new_project()
    project.spec("raises", "refuse", declared("raises: ValueError"))
    project.spec("checks", "print_a_traceback", declared("check: stderr"))
    project.spec("differs", "refuse", declared("raises: TypeError"))
    project.spec("works", "succeed", declared("raises: ValueError"))
    return project, project.pytest("-q", "--junitxml=mine.xml")


def test_one_that_holds_is_expected(ran: tuple[Project, Run]) -> None:
    """It is recorded with reason and link, and is an expected failure in JUnit."""
    project, run = ran
    for name in ("raises[plain-plain]", "checks[plain-plain]"):
        record = project.record[name]
        assert (record["outcome"], record["reason"], record["link"]) == (
            "known_failure",
            "a known bug",
            LINK,
        )
        assert project.junit("mine.xml")[name] == "skipped pytest.xfail"
    assert "2 known failure" in run.text
    assert "≈ 2 known failures" in run.text
    assert LINK not in run.text
    shown = project.tunematrix("report", "-e", "plain", "--all").text
    ids = "checks[plain-plain], raises[plain-plain]"
    assert f"≈ known failure ×2: a known bug\n    {LINK}\n    {ids}\n" in shown


def test_one_that_differs_fails(ran: tuple[Project, Run]) -> None:
    """What was expected and what came instead are both told."""
    project, run = ran
    assert project.outcomes["differs[plain-plain]"] == "failed"
    assert project.junit("mine.xml")["differs[plain-plain]"] == "failure"
    assert "expected TypeError and nothing else, got exit: ValueError" in run.text
    assert "because  ValueError while in train: integers take no gradient" in run.text


def test_one_that_works_by_now_fails(ran: tuple[Project, Run]) -> None:
    """Or it would hide the next bug."""
    project, run = ran
    assert run.code == 1
    assert project.outcomes["works[plain-plain]"] == "failed"
    (line,) = [line for line in run.short_summary if "::works[" in line]
    assert "expected to fail (ValueError) and passed" in line


def test_a_misspelt_check_is_refused(new_project: NewProject) -> None:
    """Before anything runs: no failure of such a name could ever be the expected one."""
    project = new_project()
    project.spec("odd", "succeed", declared("check: stdrr"))
    run = project.pytest()
    assert run.code == 4
    assert "no check is called stdrr; did you mean stderr" in run.text


RELEASES = f"""
faults:
  - {{releases: {{pytest: "<999"}}, when: {{quantizer: plain}}, checks: [stderr], reason: as it was,
     link: '{LINK}'}}
  - {{releases: {{pytest: "<1"}}, raises: ValueError, reason: long gone, link: '{LINK}'}}
limits:
  - {{releases: {{pytest: "<999"}}, when: {{spec: works, quantizer: other}},
     reason: it can't, link: '{LINK}'}}
"""


def test_what_is_known_of_installed_releases(new_project: NewProject) -> None:
    """A fault may show and need not; what they can't do isn't run; other releases don't count."""
    project = new_project()
    project.write("conf/releases.yaml", RELEASES)
    project.option("quantizer", "other")
    project.spec("shows", "print_a_traceback")
    project.spec("raises", "refuse")
    project.spec("works", "succeed", quantizers="[plain, other]")
    assert project.pytest().code == 1
    assert project.outcomes == {
        "shows[plain-plain]": "known_failure",
        "raises[plain-plain]": "failed",
        "works[plain-plain]": "passed",
        "works[plain-other]": "unsupported",
    }
    shows, other = project.record["shows[plain-plain]"], project.record["works[plain-other]"]
    assert (shows["reason"], shows["link"]) == ("as it was", LINK)
    assert other["reason"].startswith("it can't (pytest ")
    probed = project.pytest("-m", "probe")
    assert probed.code == 1 and "expected to fail (any failure) and passed" in probed.text


def test_the_junit_file_that_was_named_is_the_only_one(ran: tuple[Project, Run]) -> None:
    """What the user asks for goes before the default."""
    assert not (ran[0].root / ".tunematrix/plain/junit.xml").exists()


def test_probes_are_known_failures(project: Project) -> None:
    """Every declared no is tried, and nothing else; one that works by now fails."""
    refusals = {
        "refuse": f'reason: "no", link: "{LINK}", raises: ValueError',
        "crash": f'reason: "no idea how", link: "{LINK}"',
        "succeed": f'reason: "so they say", link: "{LINK}", raises: ValueError',
    }
    answers = "".join(f"    {recipe}: {{{no}}}\n" for recipe, no in refusals.items())
    project.option("quantizer", "refused", f"capabilities:\n  recipe:\n{answers}")
    for recipe in refusals:
        quantizers = "[refused]" if recipe == "crash" else "[plain, refused]"
        project.spec(recipe, recipe, f"markers: [{recipe}_too]\n", quantizers)
    run = project.pytest("-m", "probe")
    assert project.outcomes == {
        "refuse[plain-refused]": "known_failure",
        "crash[plain-refused]": "known_failure",
        "succeed[plain-refused]": "failed",
    }
    assert run.code == 1
    assert "expected to fail (ValueError) and passed: remove the expectation" in run.text
    # Once where it failed, and once where the run ends.
    again = "run -e plain 'specs/succeed.yaml::succeed[plain-refused]' -m probe"
    assert run.text.count(again) == 2
