from __future__ import annotations

import http.server
import platform
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tunematrix.environments import sources
from tunematrix.environments.sources import (
    TorchSource,
    as_uv,
    read_settings,
    torch_source,
    torch_wheels,
    without_index,
)
from tunematrix.environments.table import Variant

NOWHERE = "http://127.0.0.1:9/whl/cpu"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """A PyTorch index of its own, on this machine."""
    (tmp_path / "whl" / "cpu" / "torch").mkdir(parents=True)

    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/whl/cpu"
        server.shutdown()


LISTED = """
:env:.find-links='/not/this/one'
global.cert='/ca.crt'
global.extra-index-url='https://a https://b'
install.find-links='/wheels /more'
global.no-index='true'
"""


def test_pips_files_are_read() -> None:
    """What `pip config list` shows of pip's files, its [install] section included."""
    assert read_settings({}, LISTED) == {
        "cert": "/ca.crt",
        "extra-index-url": "https://a https://b",
        "find-links": "/wheels /more",
        "no-index": "true",
    }


def test_pips_variables_win() -> None:
    """As they do with pip."""
    told = {"PIP_FIND_LINKS": "/mine", "PIP_NO_INDEX": "0", "PIP_INDEX_URL": "https://c"}
    settings = read_settings(told, LISTED)
    assert (settings["find-links"], settings["index-url"]) == ("/mine", "https://c")
    assert without_index(read_settings({}, LISTED))
    assert not without_index(settings)
    assert not without_index({})


def test_pips_settings_become_uvs() -> None:
    """Under uv's names and with its separators; what is set for uv itself stays."""
    variables = as_uv(read_settings({}, LISTED), {"SSL_CERT_FILE": "/own.crt"})
    assert variables["UV_FIND_LINKS"] == "/wheels,/more"
    assert variables["UV_INDEX"] == "https://a https://b"
    assert variables["SSL_CERT_FILE"] == "/own.crt"
    assert variables["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert "UV_DEFAULT_INDEX" not in variables


def test_wheels_of_torch(tmp_path: Path) -> None:
    """Those of this build, Python and processor, the oldest first."""
    here = platform.machine()
    for name in (
        f"torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_{here}.whl",
        f"torch-2.9.1+cpu-cp311-cp311-manylinux_2_28_{here}.whl",
        f"torch-2.14.0+cpu-cp312-cp312-manylinux_2_28_{here}.whl",
        "torch-2.15.0+cpu-cp311-cp311-manylinux_2_28_riscv64.whl",
        f"torch-2.16.0+cu130-cp311-cp311-manylinux_2_28_{here}.whl",
    ):
        (tmp_path / name).touch()
    assert torch_wheels(f"/nowhere,file://{tmp_path}", "cpu", (3, 11)) == ["2.9.1", "2.13.0"]
    assert torch_wheels(str(tmp_path), "cpu", (3, 12)) == ["2.14.0"]
    assert torch_wheels("", "cpu", (3, 11)) == []


@pytest.mark.parametrize(
    ("variant", "pin"),
    [
        ("locked", "torch==2.13.0+cpu"),
        ("lowest", "torch==2.10.1+cpu"),
        ("latest", "torch==2.14.0+cpu"),
    ],
)
def test_a_wheel_comes_first(variant: Variant, pin: str) -> None:
    """The locked one, or the lowest or latest that is allowed; no index is asked."""
    version = {"locked": "2.13.0", "lowest": "2.10", "latest": "2.10"}[variant]
    wheels = ["2.9.0", "2.10.1", "2.13.0", "2.14.0"]
    assert torch_source(NOWHERE, version, variant, wheels) == TorchSource(pins=(pin,))


@pytest.mark.parametrize(
    ("variant", "pins"),
    [("locked", ()), ("lowest", ("torch==2.13+cpu",)), ("latest", ())],
)
def test_then_pytorchs_index(index: str, variant: Variant, pins: tuple[str, ...]) -> None:
    """It is asked beside the others; PyPI's 2.13 would come before its 2.13+cpu."""
    found = torch_source(index, "2.13", variant, [])
    assert found == TorchSource(pins=pins, options=("--extra-index-url", index))


def test_then_whatever_there_is() -> None:
    """Out of reach is no reason to stop, and is told."""
    found = torch_source(NOWHERE, "2.13.0", "locked", ["2.12.0"])
    assert found.pins == found.options == ()
    assert "http://127.0.0.1:9/whl/cpu can't be reached" in found.warnings[0]


def test_no_index_is_asked_where_none_may_be(index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even PyTorch's, which would answer."""
    found = torch_source(index, "2.13.0", "locked", [], may_ask=False)
    assert found.options == ()
    assert "no folder of wheels has torch 2.13.0+cpu" in found.warnings[0]


def test_the_tag_of_an_index() -> None:
    """Is its last part."""
    assert sources.tag_of("https://download.pytorch.org/whl/cu130") == "cu130"
