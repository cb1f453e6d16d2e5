"""Gathered records → one HTML file, which opens from disk and asks for nothing else.

The data is one compressed block of text; the script beside it unpacks it and draws. A policy in the
page's head names the one style and the one script that may run, by their hashes, and forbids
everything else: whatever a record holds, no browser runs it or loads anything for it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template
from time import strftime

from pydantic import TypeAdapter

from tunematrix.errors import NothingTested
from tunematrix.report.again import run_again
from tunematrix.report.html.comparing import comparisons, parity
from tunematrix.report.html.gathering import Gathered, Lines, gather
from tunematrix.report.html.payload import FIGURES, Page, ShownCell, ShownOutcome
from tunematrix.report.html.showing import Again, Bands, axes_of, no_bands, shown_cell, shown_run
from tunematrix.report.rows import SEVERITY, SYMBOLS, in_words, plain_first
from tunematrix.report.text import one_line
from tunematrix.report.writing import write_whole
from tunematrix.results.record import Record

SCRIPTS = (
    "dom.js",
    "state.js",
    "charts.js",
    "matrix.js",
    "cells.js",
    "cell.js",
    "relations.js",
    "compare.js",
    "parity.js",
    "main.js",
)
"""In the order in which they are put together; each uses what those before it define."""
FIRST_AXES = ("recipe", "method", "quantizer", "backend")
"""Stand in front of all other axes."""


def write_page(
    file: Path, sources: Sequence[Lines], again: Again = run_again, bands: Bands = no_bands
) -> int:
    """Write a page about some records, and return how many cells and relations it shows.

    Args:
        file: is replaced at once, so that whoever opens it sees an old page or a new one; `-` is
            the standard output.
        sources: of lines of records, each read twice.
        again: gives the command that repeats a cell.
        bands: gives what a baseline expects of a cell.

    Raises:
        BadInput: a line isn't a record.
        NothingTested: there is no record.
        MachineProblem: the file can't be written.
    """
    page = page_of(gather(sources), again, bands)
    if not page.cells:
        message = f"there is no record to show, so {file} isn't written; run nox -s cpu"
        raise NothingTested(message)
    write_whole(file, rendered(page))
    return len(page.cells)


def page_of(found: Gathered, again: Again = run_again, bands: Bands = no_bands) -> Page:
    """Return what a page about some records shows."""
    newest = [thread.newest for thread in found.threads]
    cells = [
        shown_cell(record, position, thread.past.get(record.cell_id, ()), again, bands)
        for position, thread in enumerate(found.threads)
        for record in thread.newest.records
    ]
    names = list(dict.fromkeys(one_line(run.environment) for run in newest))
    return Page(
        title=f"tunematrix: {', '.join(names)}",
        made=f"{strftime('%Y-%m-%d %H:%M')} by tunematrix {version('tunematrix')}",
        outcomes=tuple(ShownOutcome(o, SYMBOLS[o], in_words(o), in_words(o, 2)) for o in SEVERITY),
        axes=_axes(record for run in newest for record in run.records),
        quantizers=_quantizers(cells),
        figures=FIGURES,
        runs=tuple(shown_run(thread.newest, thread.earlier) for thread in found.threads),
        cells=tuple(cells),
        comparisons=comparisons(found.threads),
        parity=parity(newest),
        left_out=one_line(_left_out(found)),
    )


def rendered(page: Page) -> bytes:
    """Return the HTML of a page."""
    data = gzip.compress(TypeAdapter(Page).dump_json(page), compresslevel=6, mtime=0)
    style, script = _asset("page.css"), _script()
    text = Template(_asset("page.html")).substitute(
        style=style,
        script=script,
        data=base64.b64encode(data).decode(),
        style_hash=_hash(style),
        script_hash=_hash(script),
    )
    return text.encode()


def _axes(records: Iterable[Record]) -> tuple[str, ...]:
    """Return all axes, those first that a reader looks for."""
    known = dict.fromkeys(axis for record in records for axis in axes_of(record))
    first = [axis for axis in FIRST_AXES if axis in known]
    return tuple(dict.fromkeys([*first, *known]))


def _quantizers(cells: Iterable[ShownCell]) -> tuple[str, ...]:
    named = {cell.axes["quantizer"] for cell in cells if "quantizer" in cell.axes}
    return tuple(sorted(named, key=plain_first))


def _left_out(found: Gathered) -> str:
    if not found.left_out:
        return ""
    names = ", ".join(f"{run} of {environment}" for environment, run, _ in found.left_out)
    return f"Too many cells for one page; left out: {names}. Give fewer files to see them"


@cache
def _asset(name: str) -> str:
    return (files(__package__) / "assets" / name).read_text(encoding="utf-8")


@cache
def _script() -> str:
    parts = "\n".join(map(_asset, SCRIPTS))
    return f'"use strict";\n(() => {{\n{parts}\n}})();\n'


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
