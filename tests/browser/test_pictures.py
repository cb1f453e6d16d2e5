"""The pictures of docs/report.md, taken of the page that the other tests look at.

`nox -s pictures` takes them anew; without TUNEMATRIX_PICTURES they go to the test's own folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.browser.conftest import HERE, THIS, Opened, address, settle

PICTURES: Mapping[str, tuple[str, str, int]] = {
    "report-light.png": ("light", address(**HERE), 860),
    "report-dark.png": ("dark", address(cell=THIS), 1100),
}
"""Name of the file to theme, address behind the #, and height."""


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_for_the_docs(opened: Opened, tmp_path: Path, name: str) -> None:
    """It shows what the page of docs says."""
    theme, place, height = PICTURES[name]
    page = opened(place, width=1200, color_scheme=theme)
    page.set_viewport_size({"width": 1200, "height": height})
    settle(page)
    file = Path(os.environ.get("TUNEMATRIX_PICTURES", tmp_path)) / name
    page.screenshot(path=str(file))
    assert file.stat().st_size > 20_000
