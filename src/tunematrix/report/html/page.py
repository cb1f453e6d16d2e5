"""Gathered records → one HTML file, which opens from disk and asks for nothing else.

The data is one compressed block of text; the script beside it unpacks it and draws. A policy in the
page's head names the one style and the one script that may run, by their hashes, and forbids
everything else: whatever a record holds, no browser runs it or loads anything for it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
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
from tunematrix.report.rows import SEVERITY, SYMBOLS, Run, in_words, plain_first
from tunematrix.report.text import one_line
from tunematrix.report.writing import write_whole

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
        sources: of lines of records, each read several times.
        again: gives the command that repeats a cell.
        bands: gives what a baseline expects of a cell.

    Raises:
        BadInput: a line isn't a record.
        NothingTested: there is no record.
        MachineProblem: the file can't be written.
    """
    found = gather(sources)
    count = sum(len(thread.newest.records) for thread in found.threads)
    if not count:
        message = f"there is no record to show, so {file} isn't written; run nox -s cpu"
        raise NothingTested(message)
    write_whole(file, _html(_frame_of(found), _cells_of(found, again, bands)))
    return count


def page_of(found: Gathered, again: Again = run_again, bands: Bands = no_bands) -> Page:
    """Return what a page about some records shows."""
    return replace(_frame_of(found), cells=tuple(_cells_of(found, again, bands)))


def rendered(page: Page) -> bytes:
    """Return the HTML of a page."""
    return _html(page, page.cells)


def _cells_of(found: Gathered, again: Again, bands: Bands) -> Iterator[ShownCell]:
    """Yield all cells of a page, one after the other: there may be too many to have them all."""
    for position, thread in enumerate(found.threads):
        for record in thread.whole():
            past = thread.past.get(record.cell_id, ())
            yield shown_cell(record, position, past, again, bands)


def _frame_of(found: Gathered) -> Page:
    """Return a page without its cells."""
    newest = [thread.newest for thread in found.threads]
    names = list(dict.fromkeys(one_line(run.environment) for run in newest))
    return Page(
        title=f"tunematrix: {', '.join(names)}",
        made=f"{strftime('%Y-%m-%d %H:%M')} by tunematrix {version('tunematrix')}",
        outcomes=tuple(ShownOutcome(o, SYMBOLS[o], in_words(o), in_words(o, 2)) for o in SEVERITY),
        axes=_axes(_options(newest)),
        quantizers=_quantizers(_options(newest)),
        figures=FIGURES,
        runs=tuple(shown_run(thread.newest, thread.earlier) for thread in found.threads),
        cells=(),
        comparisons=comparisons(found.threads),
        parity=parity(newest),
        left_out=one_line(_left_out(found)),
    )


def _html(page: Page, cells: Iterable[ShownCell]) -> bytes:
    data = base64.b64encode(_compressed(_json(page, cells))).decode()
    style, script = _asset("page.css"), _script()
    text = Template(_asset("page.html")).substitute(
        style=style,
        script=script,
        data=data,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )
    return text.encode()


def _json(page: Page, cells: Iterable[ShownCell]) -> Iterator[bytes]:
    """Yield a page as JSON, with these cells, in pieces."""
    yield TypeAdapter(Page).dump_json(page, exclude={"cells"}).removesuffix(b"}")
    adapter, before = TypeAdapter(ShownCell), b',"cells":['
    for cell in cells:
        yield before + adapter.dump_json(cell)
        before = b","
    yield b"]}" if before == b"," else before + b"]}"


def _compressed(pieces: Iterable[bytes]) -> bytes:
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", compresslevel=6, fileobj=packed, mtime=0) as file:
        for piece in pieces:
            file.write(piece)
    return packed.getvalue()


def _options(newest: Iterable[Run]) -> Iterator[Mapping[str, str]]:
    return (axes_of(record) for run in newest for record in run.records)


def _axes(options: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    """Return all axes, those first that a reader looks for."""
    known = dict.fromkeys(axis for each in options for axis in each)
    first = [axis for axis in FIRST_AXES if axis in known]
    return tuple(dict.fromkeys([*first, *known]))


def _quantizers(options: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    named = {each["quantizer"] for each in options if "quantizer" in each}
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
