"""Each way in which a download fails: what is said, with which exit code, and what is left."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.unit.pipeline.loopback_hub import FILES, TOKEN, WEIGHTS

if TYPE_CHECKING:
    from tests.unit.pipeline.conftest import Place

LIMITED = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
runpy.run_module("tunematrix", run_name="__main__")
"""


@pytest.mark.each_time(2)
@pytest.mark.parametrize(
    ("repo", "variables", "code", "texts"),
    [
        ("nobody/none", {}, 4, ["download.yaml:4: nobody/none: there is no such repository (401)"]),
        ("nobody/none", {"HF_TOKEN": TOKEN}, 4, ["there is no such repository (404)"]),
        ("faulty/secured", {}, 4, ["wants a token (401), and none was sent", "HF_TOKEN isn't set"]),
        (
            "faulty/secured",
            {"HF_TOKEN": TOKEN[:-1] + "x"},
            4,
            ["refuses the token (401)", "the token in HF_TOKEN is mistyped, expired or revoked"],
        ),
        ("faulty/gated", {}, 4, ["access is gated (403)", "ask for access at http"]),
        ("faulty/forbidden", {}, 4, ["forbids access (403)", "lacks the right to read"]),
        ("faulty/gone-later", {}, 4, ["model.safetensors is listed, but isn't there (404)"]),
        ("faulty/limited", {}, 6, ["too many requests (429); it asks to wait 120 s"]),
        ("faulty/limited-later", {}, 6, ["too many requests (429); it asks to wait 1 s"]),
        ("faulty/maintained", {}, 6, ["asking again in 1 s", "an error of its own (503)"]),
        ("faulty/closes", {}, 6, ["the connection was cut, again and again"]),
        ("faulty/website", {}, 6, ["doesn't answer as a Hub does", "correct HF_ENDPOINT"]),
        ("faulty/circling", {}, 6, ["redirects in a circle at model.safetensors"]),
        ("faulty/endless", {}, 6, ["goes on after all announced bytes have come"]),
        ("faulty/truncated", {}, 6, ["model.safetensors came with the wrong size"]),
        ("faulty/corrupt", {}, 6, ["its hash differs; it was removed"]),
        ("faulty/mixed-up", {}, 6, ["its hash differs", "or another revision's file"]),
        ("faulty/staying-cut", {}, 6, ["the connection was cut, again and again at model.safe"]),
    ],
)
def test_told_apart(
    place: Place, repo: str, variables: dict[str, str], code: int, texts: list[str]
) -> None:
    """Each has words of its own, a likely cause and what to do; nothing passes for the file."""
    place.write(repo)
    said = place.run(**variables)
    assert said.code == code, said.text
    for text in (*texts, "likely cause: ", "to do: "):
        assert text in said.text
    assert not (place.out / "model.safetensors").exists()
    assert not (place.out / ".tunematrix-download.json").exists()


def test_a_small_file_that_is_corrupt(place: Place) -> None:
    """Files that the hub has no SHA-256 of are held against what git has."""
    place.write("faulty/corrupt", "[config.json]")
    said = place.run()
    assert (said.code, "config.json isn't what the hub says it is" in said.text) == (6, True)
    assert not (place.out / "config.json").exists()


def test_a_failure_over_an_earlier_download(place: Place) -> None:
    """The folder's receipt no longer holds, so there is none."""
    place.write("good/tiny", "[config.json, README.md]")
    assert place.run("models.0.revision=main").code == 0
    (place.out / "README.md").write_text("changed")
    assert place.run("models.0.repo=faulty/corrupt").code == 6
    assert not (place.out / ".tunematrix-download.json").exists()


def test_no_such_revision(place: Place) -> None:
    """The line is that of the revision, or the command line."""
    place.write("good/tiny")
    said = place.run("models.0.revision=v9")
    assert said.code == 4
    assert "command line: good/tiny: has no revision v9 (404)" in said.text


def test_a_pattern_that_matches_nothing(place: Place) -> None:
    """What there is is listed, the likest first."""
    place.write("good/tiny", "[config.json, model.safetensor]")
    said = place.run()
    assert said.code == 4
    assert "no file matches model.safetensor\n" in said.text
    assert "did you mean model.safetensors? it has README.md, config.json, data/v" in said.text


def test_a_name_that_leads_out_of_the_folder(place: Place) -> None:
    """Nothing of that repository is written."""
    place.write("faulty/escaping", '["*"]')
    said = place.run()
    assert said.code == 6
    assert "lists a file ../escaped.txt, which leads out of the folder" in said.text
    assert not list(place.root.rglob("escaped.txt")) and not list(place.out.iterdir())


def test_nobody_listens(place: Place) -> None:
    """A hub that can't be reached, told from one whose name can't be resolved."""
    place.write("good/tiny")
    said = place.run(HF_ENDPOINT="http://127.0.0.1:9")
    assert (said.code, "http://127.0.0.1:9 can't be reached" in said.text) == (6, True)


def test_a_name_without_an_address(place: Place) -> None:
    """DNS: `.invalid` resolves nowhere."""
    place.write("good/tiny")
    said = place.run(HF_ENDPOINT="http://hub.invalid")
    assert said.code == 6
    assert "the name of http://hub.invalid can't be resolved (DNS)" in said.text


def test_an_endpoint_that_is_no_address(place: Place) -> None:
    """Nor does it end in a traceback."""
    place.write("good/tiny")
    said = place.run(HF_ENDPOINT="hub.example")
    assert (said.code, "correct HF_ENDPOINT" in said.text) == (6, True)


@pytest.mark.each_time(1)
@pytest.mark.parametrize(
    ("repo", "text"),
    [("hangs", "no progress for 3 s; "), ("falling-silent", "no progress for 3 s at model.saf")],
)
def test_a_hub_that_falls_silent(place: Place, repo: str, text: str) -> None:
    """It is given up after the config's limit, long before the client would."""
    place.write(f"faulty/{repo}", timeout=3)
    said = place.run()
    assert (said.code, text in said.text) == (6, True), said.text


def test_too_large_for_the_disk(place: Place) -> None:
    """It is said before anything is fetched."""
    place.write("faulty/huge", '["*.safetensors"]')
    said = place.run()
    assert said.code == 6
    assert "1000000000.0 GB are needed" in said.text
    assert not place.hub.asked("GET", "/cdn/")


def test_a_disk_that_fills_up(place: Place) -> None:
    """What was written stays; with more space, the same command goes on from there."""
    place.write("good/tiny")
    (place.root / "limited.py").write_text(LIMITED)
    done = subprocess.run(
        [sys.executable, "limited.py", *place.command()[3:]],
        cwd=place.root,
        env=place.environment({}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 6
    assert "no space for it in out: file too large" in done.stderr
    said = place.run()
    assert said.code == 0 and "resumed" in said.text
    assert (place.out / "model.safetensors").read_bytes() == WEIGHTS


def test_a_file_in_the_place_of_the_folder(place: Place) -> None:
    """It is bad input, and nobody was asked."""
    place.write("good/tiny")
    place.out.write_text("mine")
    said = place.run()
    assert said.code == 4
    assert "output_dir: out is a file; name a folder" in said.text
    assert place.out.read_text() == "mine" and not place.hub.requests


def test_a_folder_that_cannot_be_written(place: Place) -> None:
    """The machine is in the way, and nobody was asked."""
    place.write("good/tiny")
    folder = Path("/proc/none")  # for root, who may write everywhere else
    if os.geteuid():
        folder = place.root / "locked"
        folder.mkdir(mode=0o500)
    said = replace(place, into=folder).run()
    assert (said.code, "can't write to" in said.text) == (6, True), said.text
    assert not place.hub.requests


def test_offline_and_not_there(place: Place) -> None:
    """Nobody is asked; and once it is there, nobody has to be."""
    place.write("good/tiny")
    said = place.run(HF_HUB_OFFLINE="1")
    assert said.code == 6
    assert "HF_HUB_OFFLINE is set, and out doesn't hold it: nothing of it is there" in said.text
    assert not place.hub.requests
    assert place.run().code == 0
    place.hub.requests.clear()
    said = place.run(HF_HUB_OFFLINE="1")
    assert (said.code, "there already" in said.text) == (0, True)
    assert not place.hub.requests


@pytest.mark.nightly
def test_offline_and_changed(place: Place) -> None:
    """What was changed since isn't what was downloaded."""
    place.write("good/tiny", "[config.json]")
    assert place.run().code == 0
    (place.out / "config.json").write_bytes(FILES["config.json"].upper())
    said = place.run(HF_HUB_OFFLINE="1")
    assert (said.code, "config.json is missing or was changed" in said.text) == (6, True)
    said = place.run("models.0.revision=older", HF_HUB_OFFLINE="1")
    assert (said.code, "doesn't hold it: main is there" in said.text) == (6, True)


def test_without_huggingface_hub(place: Place) -> None:
    """An environment that has everything else: the extra that brings it is named."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place.root / "v"], check=True)
    links = place.root / "packages"
    links.mkdir()
    for folder in [Path(path) for path in sys.path if path.endswith("site-packages")]:
        for entry in folder.iterdir():
            if not entry.name.startswith("huggingface") and not entry.name.endswith(".pth"):
                (links / entry.name).symlink_to(entry)
    source = Path(__file__).parents[3] / "src"
    place.write("good/tiny")
    command = [str(place.root / "v/bin/python"), *place.command()[1:]]
    variables = place.environment({"PYTHONPATH": f"{source}{os.pathsep}{links}"})
    done = subprocess.run(
        command, cwd=place.root, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 6
    assert "huggingface_hub isn't installed" in done.stderr
    assert 'pip install "tunematrix[hub]"' in done.stderr
