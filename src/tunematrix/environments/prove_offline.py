"""Run the suite over the packages of this Python, out of the folder that this script lies in.

Use: python3 FOLDER/prove.py [ARGUMENT]..., with the arguments of `tunematrix prove`, such as
`-e cuda -m smoke`. Nothing is fetched, and nothing is installed into this Python, which needs
neither pip nor uv.

`tunematrix wheels` puts a copy of this file beside the wheels, so it imports nothing of tunematrix.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
import zipfile
from pathlib import Path

SCRIPT = "prove.py"
"""What the copy is called."""
ABOUT = "wheels.json"
"""The file beside it: which Python, platform and packages the wheels are for."""
BAD_INPUT = 4
MACHINE = 6
"""Exit codes, as of tunematrix itself."""
# A wheel's files that don't lie where they are installed to: NAME-VERSION.data/KIND/PATH.
_ELSEWHERE = re.compile(r"[^/]+\.data/([^/]+)/(.+)")
_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from tunematrix.cli import main; main()"


def main() -> None:
    """Unpack tunematrix unless it is there, and go on as `tunematrix prove`."""
    here = Path(__file__).resolve().parent
    if problem := _misfit(here):
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    state = Path(os.environ.get("TUNEMATRIX_STATE") or ".tunematrix").absolute()
    try:
        packages = _unpacked(here, state / "carried")
    except (OSError, zipfile.BadZipFile) as error:
        text = f"error: {here} can't be unpacked into {state}: {error}"
        print(f"{text}; make room there, or copy the whole folder again", file=sys.stderr)
        sys.exit(MACHINE)
    # -I -S: tunematrix starts with its own dependencies alone, whatever this Python has.
    command = [sys.executable, "-I", "-S", "-c", _START, str(packages)]
    told = ["prove", f"--wheels={here}", f"--python={sys.executable}"]
    os.execv(sys.executable, [*command, *told, *sys.argv[1:]])


def fingerprint(folder: Path) -> str:
    """Return what tells a folder of wheels from another one: their names and sizes."""
    return "\n".join(f"{one.name} {one.stat().st_size}" for one in sorted(folder.glob("*.whl")))


def unpack(wheel: Path, folder: Path) -> None:
    """Unpack a wheel into a folder of packages, as installers do; commands go to its `bin`.

    Raises:
        OSError: the disk is full, or can't be written to.
        BadZipFile: the wheel is damaged.
    """
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            kind, inner = "", entry.filename
            if moved := _ELSEWHERE.fullmatch(entry.filename):
                kind, inner = moved[1], moved[2]
            if kind == "headers" or entry.is_dir():
                continue
            entry.filename = f"bin/{inner}" if kind == "scripts" else inner
            path = archive.extract(entry, folder)  # which leads nowhere outside
            if kind == "scripts" or entry.external_attr >> 16 & 0o100:
                Path(path).chmod(0o755)


def _misfit(here: Path) -> str:
    """Return why the wheels can't be used with this Python; empty if they can."""
    try:
        about = json.loads((here / ABOUT).read_text(encoding="utf-8"))
        wanted, machine = about["python"], about["platform"].partition("-")[0]
    except (OSError, ValueError, KeyError) as error:
        return f"{here / ABOUT}: can't be read: {error}; copy the whole folder again"
    found = "{}.{}".format(*sys.version_info)
    here_is = platform.machine().replace("arm64", "aarch64")
    if (found, here_is) == (wanted, machine):
        return ""
    text = f"the wheels are for Python {wanted} on {machine}, and this is {found} on {here_is}"
    return f"{text}; start this with python{wanted}, or collect others with `tunematrix wheels`"


def _unpacked(here: Path, folder: Path) -> Path:
    """Return a folder with all that the wheels hold, unpacked if need be."""
    packages, stamp, wheels = folder / "packages", folder / "unpacked", fingerprint(here)
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wheels:
        print(f"Unpacking tunematrix into {packages}", file=sys.stderr)
        shutil.rmtree(packages, ignore_errors=True)
        for wheel in here.glob("*.whl"):
            unpack(wheel, packages)
        stamp.write_text(wheels, encoding="utf-8")
    return packages


if __name__ == "__main__":
    main()
