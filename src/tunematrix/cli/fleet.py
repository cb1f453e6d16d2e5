"""Verbs of a fleet: `certificates`, `scheduler` and `worker`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunematrix.cli.app import EnvironmentOption, Verb, app
from tunematrix.errors import BadInput
from tunematrix.fleet.address import PORT, certificates_for, parse_address
from tunematrix.fleet.certificates import (
    DAYS,
    default_folder,
    make_certificates,
    read_certificates,
)
from tunematrix.paths import project_root, shown
from tunematrix.project import read_project
from tunematrix.report.saying import complain, say

CertificatesOption = Annotated[
    Path | None,
    typer.Option(
        "--certificates",
        metavar="FOLDER",
        help="Folder with the fleet's certificates; default: .tunematrix/fleet-certificates.",
    ),
]


@app.command(cls=Verb)
def certificates(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER", help="Where they go; default: .tunematrix/fleet-certificates."
        ),
    ] = None,
) -> None:
    """Make the certificates by which the machines of a fleet know each other.

    Once is enough. Copy the folder to each machine in a safe way, such as
    scp: whoever has it can run code on all of them.

    Example: tunematrix certificates
    """
    made = make_certificates(folder or default_folder(project_root(Path.cwd())))
    say(f"made {shown(made.authority)} and {shown(made.member)}, good for {DAYS} days")
    say("copy both to each machine of the fleet in a safe way: whoever has them is a member")


@app.command(cls=Verb)
def scheduler(
    host: Annotated[
        str,
        typer.Option(metavar="HOST", help="Address to listen at; default: all of this machine's."),
    ] = "",
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="Port to listen at.")
    ] = PORT,
    folder: CertificatesOption = None,
    open_here: Annotated[
        bool,
        typer.Option(
            "--no-certificates", metavar="", help="For this machine alone: listen at 127.0.0.1."
        ),
    ] = False,
) -> None:
    """Start the scheduler that the workers and the runs of a fleet meet at.

    It is Dask's own. It needs certificates unless only this machine can
    reach it. Ctrl-C ends it.

    Example: tunematrix scheduler
    Example: tunematrix scheduler --no-certificates
    """
    from tunematrix.fleet.scheduler import run_scheduler

    if open_here:
        if folder is not None:
            raise BadInput("--no-certificates and --certificates: give one of them")
        known, host = None, host or "127.0.0.1"
    else:
        known = read_certificates(folder or default_folder(project_root(Path.cwd())))
    run_scheduler(host, port, known, complain)


@app.command(cls=Verb)
def worker(
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="The scheduler's, such as 192.168.1.5:8786.")
    ],
    environment: EnvironmentOption = None,
    folder: CertificatesOption = None,
    places: Annotated[
        int | None,
        typer.Option(
            "-n", min=1, metavar="N", help="Cells at once; default: as many as there is room for."
        ),
    ] = None,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Its name in records; default: one that is made up.")
    ] = "",
) -> None:
    """Offer this machine and this virtualenv to a fleet, until Ctrl-C.

    The device is tried first, as doctor does. Runs with --fleet ADDRESS
    send it cells of its environment.

    Example: tunematrix worker 192.168.1.5:8786 -e cuda
    """
    from tunematrix.fleet.offering import offer_here

    where = parse_address(address)
    project = read_project(Path.cwd(), environment)
    known = certificates_for(where, folder, project.root)
    offer_here(where, known, project, places, name, complain)
