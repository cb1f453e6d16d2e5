"""`tunematrix download` against a hub on this machine: what it fetches, says and leaves."""

from __future__ import annotations

import hashlib
import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from tests.unit.pipeline.loopback_hub import COMMIT, FILES, OLDER, OLDER_FILES, TOKEN, WEIGHTS

from tunematrix.errors import BadInput
from tunematrix.hub.receipt import RECEIPT, read_receipt

if TYPE_CHECKING:
    from tests.unit.pipeline.conftest import Place

WANTED = '["*.json", model.safetensors, data/]'


def _listed(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the client's own."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_what_was_asked_for(place: Place) -> None:
    """These files and no others, a line each; the receipt says what they are."""
    place.write("good/tiny", WANTED)
    said = place.run()
    assert said.code == 0, said.text
    wanted = ("config.json", "data/vocab.json", "model.safetensors")
    files = _listed(place.out)
    del files[RECEIPT]
    assert files == {name: FILES[name] for name in wanted}
    assert place.receipt == {
        "form": 1,
        "repo": "good/tiny",
        "revision": "main",
        "commit": COMMIT,
        "files": [
            {"path": n, "size": len(FILES[n]), "sha256": hashlib.sha256(FILES[n]).hexdigest()}
            for n in wanted
        ],
    }
    assert said.text.splitlines() == [
        f"good/tiny at main: commit {COMMIT}",
        "puts 3 of its 5 files, 3.0 MB, into out",
        "  config.json             23 B  fetched",
        "  data/vocab.json          9 B  fetched",
        "  model.safetensors     3.0 MB  fetched",
        f"good/tiny: 3 files, 3.0 MB (3 fetched, 0 there already), commit {COMMIT}",
        "all checked, and listed in out/.tunematrix-download.json",
    ]


def test_a_second_time(place: Place) -> None:
    """What is there is checked, and not fetched; what was changed is fetched again."""
    place.write("good/tiny", WANTED)
    assert place.run().code == 0
    (place.out / "config.json").write_bytes(FILES["config.json"].upper())
    (place.out / "model.safetensors").write_bytes(WEIGHTS[:-1])
    place.hub.requests.clear()
    said = place.run()
    assert said.code == 0
    assert said.text.count("replaced") == 2 and said.text.count("there already") == 2
    assert not place.hub.asked("GET", "vocab.json")
    files = _listed(place.out)
    assert (files["config.json"], files["model.safetensors"]) == (FILES["config.json"], WEIGHTS)


def test_another_revision(place: Place) -> None:
    """Of the files of two commits, those that differ are replaced."""
    place.write("good/tiny", WANTED)
    assert place.run().code == 0
    said = place.run("models.0.revision=older")
    assert (said.code, said.text.count("replaced")) == (0, 1)
    assert (place.receipt["revision"], place.receipt["commit"]) == ("older", OLDER)
    assert _listed(place.out)["model.safetensors"] == OLDER_FILES["model.safetensors"]


def test_a_dry_run(place: Place) -> None:
    """Sizes, and not a byte on the disk."""
    place.write("good/tiny", WANTED)
    before = _listed(place.root)
    said = place.run("--dry-run")
    assert said.code == 0
    assert "would put 3 of its 5 files, 3.0 MB, into out" in said.text
    assert "  model.safetensors     3.0 MB\n" in said.text
    assert "nothing was written" in said.text
    assert _listed(place.root) == before and not place.out.exists()
    assert not place.hub.asked("GET", "/resolve/") and not place.hub.asked("GET", "/cdn/")


def test_a_pickle(place: Place) -> None:
    """It is downloaded as asked, with a warning that names the risk."""
    place.write("good/tiny", "[pytorch_model.bin, config.json]")
    said = place.run()
    assert said.code == 0
    assert said.text.count("warning: ") == 1
    assert "pytorch_model.bin may be a pickle, which runs code of its author" in said.text
    assert (place.out / "pytorch_model.bin").read_bytes() == FILES["pytorch_model.bin"]


def test_a_token_goes_to_the_hub_alone(place: Place) -> None:
    """The host that large files lie at has addresses of its own that open them."""
    place.write("faulty/secured", WANTED)
    said = place.run("--verbose", HF_TOKEN=TOKEN, HF_DEBUG="1")
    assert said.code == 0, said.text
    assert {one.token for one in place.hub.asked("GET", "/api/")} == {TOKEN}
    assert {one.token for one in place.hub.asked("GET", "/cdn/")} == {""}


def test_no_token_but_that_of_the_environment(place: Place) -> None:
    """One that somebody logged in with is not used, nor another variable's."""
    home = place.root / "home"
    home.mkdir()
    (home / "token").write_text(TOKEN[::-1])
    place.write("good/tiny")
    text = (place.root / "download.yaml").read_text().replace("HF_TOKEN", "MINE")
    (place.root / "download.yaml").write_text(text)
    assert place.run(HF_TOKEN=TOKEN).code == 0
    assert {one.token for one in place.hub.requests} == {""}
    assert place.run("--dry-run", MINE=TOKEN).code == 0
    assert {one.token for one in place.hub.requests} == {"", TOKEN}


@pytest.mark.parametrize("repo", ["recovering", "cut"])
def test_a_hub_that_is_disturbed_once(place: Place, repo: str) -> None:
    """It is told, and doesn't matter; of a cut file, the rest is asked for."""
    place.write(f"faulty/{repo}")
    said = place.run()
    assert said.code == 0, said.text
    assert (place.out / "model.safetensors").read_bytes() == WEIGHTS
    ranges = [one.range for one in place.hub.asked("GET", "/cdn/")]
    if repo == "cut":
        assert ranges[0] == "" and ranges[1].startswith("bytes=1310720-")
        assert "peer closed connection" in said.text
    else:
        assert ranges == [""] and "the hub answered 503; asking again in 1 s" in said.text


@pytest.mark.nightly
def test_a_download_that_was_given_up(place: Place) -> None:
    """The next run goes on after the bytes that had come."""
    place.write("faulty/falling-silent-once", timeout=3)
    assert place.run().code == 6
    place.hub.requests.clear()
    said = place.run()
    assert (said.code, "resumed" in said.text) == (0, True), said.text
    (request,) = place.hub.asked("GET", "/cdn/")
    assert request.range.startswith("bytes=1310720-")
    assert (place.out / "model.safetensors").read_bytes() == WEIGHTS


def test_a_repository_that_offers_xet(place: Place) -> None:
    """Where xet is switched off, its files are fetched into drafts like all others."""
    place.write("good/xet")
    said = place.run()
    assert said.code == 0, said.text
    assert len(place.hub.asked("GET", "/cdn/")) == 1
    assert not place.hub.asked("GET", "/resolve/")
    assert (place.out / "model.safetensors").read_bytes() == WEIGHTS


def test_a_draft_that_is_spoilt(place: Place) -> None:
    """What was left of an earlier run is held against the hash as well."""
    place.write("good/tiny")
    drafts = place.out / ".cache/huggingface/download"
    drafts.mkdir(parents=True)
    draft = drafts / f"{hashlib.sha256(WEIGHTS).hexdigest()}.part"
    draft.write_bytes(bytes(1_000_000))
    said = place.run()
    assert (said.code, "isn't right; all of it again" in said.text) == (0, True)
    assert (place.out / "model.safetensors").read_bytes() == WEIGHTS


def _children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.each_time(1)
@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGKILL])
def test_interrupted(place: Place, ended_by: signal.Signals) -> None:
    """At once, with nothing left running; the same command goes on from there."""
    place.write("faulty/falling-silent-once")
    process = subprocess.Popen(
        place.command(),
        cwd=place.root,
        env=place.environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    draft = place.out / ".cache/huggingface/download"
    _wait(lambda: any(p.stat().st_size > 1_000_000 for p in draft.glob("*.part")))
    children = _children(process)
    assert children
    begun = time.monotonic()
    process.send_signal(ended_by)
    text, _ = process.communicate(timeout=30)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive and time.monotonic() - begun < 10  # the hub is silent for 30 s
    if ended_by is signal.SIGINT:
        assert process.returncode == 2
        assert "interrupted; what was fetched is kept" in text and "Traceback" not in text
    assert not (place.out / RECEIPT).exists()
    said = place.run()
    assert (said.code, "resumed" in said.text) == (0, True), said.text


def test_a_process_that_was_killed(place: Place) -> None:
    """By the kernel, for want of memory: it is told, and nothing passes for the file."""
    place.write("faulty/falling-silent")
    with subprocess.Popen(
        place.command(),
        cwd=place.root,
        env=place.environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        drafts = place.out / ".cache/huggingface/download"
        _wait(lambda: bool(list(drafts.glob("*.part"))))
        for child in _children(process):
            child.kill()
        text, _ = process.communicate(timeout=30)
    assert process.returncode == 6, text
    assert "good/" not in text and "the process that downloads was ended by SIGKILL" in text
    assert not (place.out / "model.safetensors").exists()


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_on_a_terminal(place: Place) -> None:
    """A bar with sizes is drawn, and the lines stay."""
    place.write("faulty/falling-silent", timeout=3)
    ours, theirs = pty.openpty()
    variables = place.environment({"TERM": "xterm", "COLUMNS": "120"})
    with subprocess.Popen(
        place.command(), cwd=place.root, env=variables, stdout=theirs, stderr=theirs
    ):
        os.close(theirs)
        seen = b""
        with suppress(OSError):  # how a terminal says that nobody writes to it any more
            while piece := os.read(ours, 65536):
                seen += piece
    os.close(ours)
    text = seen.decode()
    assert "model.safetensors" in text and "/3.0 MB" in text
    assert "puts 1 of its 5 files, 3.0 MB, into out" in text


def test_a_receipt_that_is_none(tmp_path: Path) -> None:
    """A later step is told what to do; where there is none, there is none."""
    assert read_receipt(tmp_path) is None
    (tmp_path / RECEIPT).write_text("{}")
    with pytest.raises(BadInput, match="is no receipt of a download"):
        read_receipt(tmp_path)
