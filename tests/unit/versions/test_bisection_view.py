from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from tunematrix.versions.found import Bisection, Culprit
from tunematrix.versions.judging import Shown
from tunematrix.versions.sets import PackageSet
from tunematrix.versions.signature import Signature
from tunematrix.versions.view import FoundHere, as_text, to_json

DAYS = datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
BROKEN = Bisection(
    culprits=(Culprit("trl", "1.4", "1.5", DAYS),),
    carried=(),
    good=PackageSet({}),
    bad=PackageSet({}),
    signature=Shown(Signature("failed", ("labels",))),
    mended=False,
    releases=20,
    tried=8,
    runs=8,
    seconds=300.4,
    checks=("labels",),
)
COMMANDS = ("run good", "run bad")


def _lines(found: Bisection, *links: str) -> list[str]:
    return as_text(FoundHere(found, COMMANDS, links), "lora[cpu]").splitlines()


def test_what_broke_it() -> None:
    """The release, both sides with their days, how it fails, what to type, and what it took."""
    assert _lines(BROKEN, "https://example.org/1") == [
        "lora[cpu] was broken by trl 1.5",
        "  trl: last good 1.4 (2026-02-01), first bad 1.5 (2026-03-01)",
        "  it broke: labels",
        "  bad is: failed: labels",
        "  known: <https://example.org/1>",
        "  to see it:",
        "    good: run good",
        "    bad: run bad",
        "8 runs, 300 s; 20 sets to choose from",
    ]


def test_what_mended_it() -> None:
    """The older side is the bad one, and the good release is named."""
    one = Culprit("trl", "1.5", "1.4", (DAYS[1], DAYS[0]))
    lines = _lines(replace(BROKEN, culprits=(one,), mended=True))
    assert lines[0] == "lora[cpu] was mended by trl 1.5"
    assert lines[1] == "  trl: last bad 1.4 (2026-02-01), first good 1.5 (2026-03-01)"
    assert lines[2] == "  it mended: labels"


def test_several_and_what_is_left_open() -> None:
    """All of a combination are named; what can't be told narrows no further, and is listed."""
    peft = Culprit("peft", "0.19", "0.21", (None, None), untestable=("0.20",))
    found = replace(
        BROKEN,
        culprits=(*BROKEN.culprits, peft),
        carried=("tokenizers",),
        runs=6,
        untestable={"peft 0.20": "it can't be imported"},
    )
    lines = _lines(found)
    assert lines[0] == "lora[cpu] was broken by trl 1.5 together with peft, one of 0.20, 0.21"
    assert "  peft: last good 0.19, first bad 0.21" in lines
    assert "  moved with it, since it asks for that: tokenizers" in lines
    assert "8 runs, 2 of them known before, 300 s; 20 sets to choose from" in lines
    assert lines[-2:] == ["1 couldn't be told:", "  peft 0.20: it can't be imported"]


def test_as_data() -> None:
    """The same, for programs; days as ISO writes them."""
    (data,) = to_json([FoundHere(BROKEN, COMMANDS)], "lora[cpu]")["found"]
    (culprit,) = data["culprits"]
    assert culprit["published"][1] == "2026-03-01T00:00:00+00:00"
    assert (data["runs"], data["known_before"], data["commands"]["bad"]) == (8, 0, "run bad")
