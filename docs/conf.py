"""Settings of the site, which `nox -s docs` builds with Sphinx; any warning ends the build.

The pages are those that GitHub shows, in the same places and with the same links. So the source is
the whole repository, of which the patterns below choose, and the first page is README.md. What its
section *Read on* lists is the navigation; a page that isn't listed there is a warning.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
READ_ON = re.compile(r"^## Read on\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
"""The section of README.md whose links are the navigation."""
GROUP = re.compile(r"^### ([^\n]+)\n(.*?)(?=^### |\Z)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[([^\]]+)\]\(([\w./-]+)\.md\)")
INDEX = """\
<!doctype html><title>tunematrix</title>
<meta http-equiv="refresh" content="0; url=README.html"><a href="README.html">tunematrix</a>
"""

project = "tunematrix"
author = copyright = "The tunematrix authors"  # noqa: A001  # Sphinx's name for it
extensions = ["myst_parser"]
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "examples/README.md", "examples/*/README.md"]
exclude_patterns = [".*", "configs", "constraints", "docs/verified", "src", "tests"]
nitpicky = True
myst_heading_anchors = 4  # by the names that GitHub gives them

html_theme = "furo"  # loads nothing from other servers, neither fonts nor scripts
html_title = "tunematrix"
html_copy_source = False  # a reader who wants the Markdown has the repository
html_use_index = False  # of the names in Python code, which these pages don't describe


def add_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    """Add what GitHub has no use for: hidden lists of pages, for the bar at the side.

    Raises:
        IndexError: README.md has no section *Read on*.
    """
    if page == "examples/README":
        source[0] += _list_of_pages("Examples", "*/README")  # each by its own heading
    elif page == app.config.root_doc:
        for heading, text in GROUP.findall(READ_ON.findall(source[0])[0]):
            pages = (f"{title} <{page}>" for title, page in LINK.findall(text))
            source[0] += _list_of_pages(heading, *pages)


def _list_of_pages(heading: str, *pages: str) -> str:
    options = [":hidden:", ":glob:", f":caption: {heading}"]
    return "\n".join(["", "```{toctree}", *options, "", *pages, "```", ""])


def follow_to_folder(app: Sphinx, page: nodes.document) -> None:
    """Let a link to a folder lead to the page in it; without one, leave its text alone.

    GitHub shows the files of a folder, which a site has none of. A link to nothing stays a warning.
    """
    for link in list(page.findall(pending_xref)):
        here = PurePosixPath(link.get("refdoc", "")).parent
        folder = (ROOT / here / link["reftarget"]).resolve()
        if not folder.is_dir():
            continue
        name = f"{folder.relative_to(ROOT)}/README"
        if name in app.env.found_docs:
            link.attributes.update({"refdomain": "doc", "reftarget": name, "reftargetid": None})
        else:
            link.replace_self(link.children)


def lead_to_first_page(app: Sphinx, error: Exception | None) -> None:
    """Write index.html, which servers show for a folder: the first page is called README.html."""
    if error is None and app.builder.format == "html":
        (Path(app.outdir) / "index.html").write_text(INDEX, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Connect the functions above to Sphinx's events."""
    app.connect("source-read", add_navigation)
    app.connect("doctree-read", follow_to_folder)
    app.connect("build-finished", lead_to_first_page)
