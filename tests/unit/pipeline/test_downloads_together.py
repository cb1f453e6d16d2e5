"""Two downloads into one folder at the same time: the second waits, and finds what is there."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.unit.pipeline.loopback_hub import COMMIT, OLDER, OLDER_FILES, WEIGHTS

if TYPE_CHECKING:
    from tests.unit.pipeline.conftest import Place

WAITS = "another download is at work in out; waiting for its end"
Running = subprocess.Popen[str]


@contextmanager
def begun(place: Place, *arguments: str) -> Iterator[Running]:
    """Start the command; it is ended with the block if it hasn't ended by then."""
    with subprocess.Popen(
        place.command(*arguments),
        cwd=place.root,
        env=place.environment({"PYTHONUNBUFFERED": "1"}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            place.hub.going_on.set()
            if process.poll() is None:
                process.kill()


def said(process: Running, text: str) -> str:
    """Return what it says, up to and with a line of this text."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"it never said {text}: {''.join(lines)}")


def rest(process: Running) -> str:
    """Return what it says until it has ended."""
    return process.communicate(timeout=60)[0]


def test_the_second_waits_for_the_first(place: Place) -> None:
    """And says so; then all is there, and is checked."""
    place.write("good/slow")
    with begun(place) as first:
        assert place.hub.begun.wait(60)
        with begun(place) as second:
            said(second, WAITS)
            place.hub.going_on.set()
            assert "1 fetched, 0 there already" in rest(first)
            assert "0 fetched, 1 there already" in rest(second)
            assert (first.returncode, second.returncode) == (0, 0)
    assert len(place.hub.asked("GET", "/cdn/")) == 1
    assert (place.out / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.nightly
@pytest.mark.parametrize("wanted", ["main", "older"])
def test_two_revisions_one_after_the_other(place: Place, wanted: str) -> None:
    """What the second wants lies there in the end, whole, and the receipt says the same."""
    place.write("good/slow")
    other = "older" if wanted == "main" else "main"
    with begun(place, f"models.0.revision={other}") as first:
        assert place.hub.begun.wait(60)
        with begun(place, f"models.0.revision={wanted}") as second:
            said(second, WAITS)
            place.hub.going_on.set()
            assert (first.wait(60), second.wait(60)) == (0, 0)
    files = {"main": WEIGHTS, "older": OLDER_FILES["model.safetensors"]}
    assert (place.out / "model.safetensors").read_bytes() == files[wanted]
    assert place.receipt["commit"] == {"main": COMMIT, "older": OLDER}[wanted]


def test_a_first_that_is_killed(place: Place) -> None:
    """It holds nobody up: the lock is gone with its process."""
    place.write("good/slow")
    with begun(place) as first:
        assert place.hub.begun.wait(60)
        with begun(place) as second:
            said(second, WAITS)
            first.send_signal(signal.SIGKILL)
            place.hub.going_on.set()
            assert "1 file, 3.0 MB" in rest(second)
            assert second.returncode == 0
    assert (place.out / "model.safetensors").read_bytes() == WEIGHTS


def test_a_first_that_takes_too_long(place: Place) -> None:
    """The second gives up after its own limit, and names what is in its way."""
    place.write("good/slow")
    with begun(place) as first:
        assert place.hub.begun.wait(60)
        waiting = place.run("timeout=2")
        assert waiting.code == 6
        assert WAITS in waiting.text
        assert "another download has been at work in out for 2 s; given up" in waiting.text
        assert first.poll() is None
        place.hub.going_on.set()
        assert "1 fetched" in rest(first)


def test_folders_of_their_own(place: Place) -> None:
    """Nobody waits for a download into another folder."""
    place.write("good/slow")
    with begun(place):
        assert place.hub.begun.wait(60)
        place.write("good/tiny")
        elsewhere = replace(place, into=place.root / "elsewhere").run()
        assert elsewhere.code == 0, elsewhere.text
        assert "waiting" not in elsewhere.text
