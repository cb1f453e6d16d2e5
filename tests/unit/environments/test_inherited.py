from __future__ import annotations

import site
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tunematrix.environments.inherited import account, found_in, machine_folders, unfit

Installed = Callable[..., Path]


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    """Return a function that writes what an installer leaves of some distributions."""

    def write(folder: str, *distributions: tuple[str, str, list[str]]) -> Path:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        for name, version, needs in distributions:
            info = root / f"{name}-{version}.dist-info"
            info.mkdir()
            lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
            lines += [f"Requires-Dist: {need}" for need in needs]
            (info / "METADATA").write_text("\n".join(lines) + "\n")
        return root

    return write


def test_what_a_machine_has(installed: Installed) -> None:
    """Names as PyPI compares them; what is seen first counts; leftovers without a name don't."""
    first = installed("first", ("Some_Thing", "1.0", []))
    second = installed("second", ("some-thing", "2.0", []), ("other", "3.0", []))
    (second / "~ther-2.0.dist-info").mkdir()
    assert found_in([str(first), str(second)]) == {"some-thing": "1.0", "other": "3.0"}
    assert found_in([]) == {}


def test_where_the_machines_packages_lie() -> None:
    """The folders that the Python at work finds packages in itself."""
    assert set(machine_folders()) <= {*sys.path, *site.getsitepackages()}
    assert any((Path(folder) / "pytest").is_dir() for folder in machine_folders())


@pytest.mark.parametrize(
    ("version", "fits"),
    [
        ("2.13.0", True),
        ("2.13.0+cu130", True),
        ("2.14.0a0+0123abc.nv26.10", True),
        ("2.12.1", False),
        ("2.13.0a0+0123abc.nv26.10", False),
    ],
)
def test_vendor_builds(version: str, fits: bool) -> None:
    """A build's own tag is no obstacle; before 2.13 is before 2.13, whoever built it."""
    found = unfit(["torch>=2.13", "rich>=14"], {"torch": version})
    assert found == ({} if fits else {"torch": "torch>=2.13"})


def test_the_account(installed: Installed) -> None:
    """What is needed and lies outside is inherited; what isn't needed isn't told."""
    machine = installed(
        "machine",
        ("torch", "2.13.0+vendor", ["sympy>=1.13", "triton; sys_platform == 'nowhere'"]),
        ("sympy", "1.14", []),
        ("unrelated", "1.0", ["missing"]),
        ("rich", "13.0", []),
    )
    inside = installed("inside", ("rich", "15.0", []), ("trl", "1.16", ["torch>=2.4"]))
    found = account(["rich>=14", "trl", "torch>=2.13"], inside, [str(machine)])
    assert found.kept == {"sympy": "1.14", "torch": "2.13.0+vendor"}
    assert found.problems == ()


def test_what_does_not_fit(installed: Installed) -> None:
    """A bound that isn't met and a package that isn't there are told with who asks."""
    machine = installed("machine", ("torch", "2.12.0", ["sympy>=1.13"]), ("numpy", "2.4.0", []))
    inside = installed("inside", ("trl", "1.16", ["numpy<2", "extra-thing[more]; extra == 'x'"]))
    found = account(["torch>=2.13", "trl[x]", "gone"], inside, [str(machine)])
    assert set(found.problems) == {
        "tunematrix requires torch>=2.13, and 2.12.0 is there",
        "tunematrix requires gone, which is not installed",
        "torch requires sympy>=1.13, which is not installed",
        "trl requires numpy<2, and 2.4.0 is there",
        "trl requires extra-thing[more], which is not installed",
    }


def test_circles_end(installed: Installed) -> None:
    """Distributions that require each other are walked once."""
    inside = installed("inside", ("a", "1", ["b"]), ("b", "1", ["a"]))
    assert account(["a"], inside, []).problems == ()
