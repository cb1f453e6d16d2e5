"""How the page can be read and used: by keyboard, in both themes, at any width, on paper."""

from __future__ import annotations

from pathlib import Path

from tests.browser.conftest import (
    HERE,
    THIS,
    VERIFIED,
    VIEWS,
    Opened,
    address,
    figures,
    settle,
    visit,
)

from tunematrix.report.rows import SYMBOLS, counts
from tunematrix.results.store import Store

CONTRAST = Path(__file__).with_name("contrast.js").read_text(encoding="utf-8")


def test_by_keyboard_alone(opened: Opened) -> None:
    """The matrix by arrows, the search by a slash, cells by j and k."""
    page = opened(address(**HERE))
    page.keyboard.press("Tab")
    settle(page)
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator(".square").first.focus()
    page.keyboard.press("ArrowDown")
    settle(page)
    page.keyboard.press("ArrowRight")
    settle(page)
    place = "document.activeElement.closest('td')"
    assert page.evaluate(f"[{place}.parentElement.rowIndex, {place}.cellIndex]") == [3, 2]
    page.keyboard.press("/")
    settle(page)
    assert page.evaluate("document.activeElement.id") == "words"
    page.keyboard.type("lora[cpu-lora-")
    settle(page)
    page.keyboard.press("Escape")
    settle(page)
    page.locator(".tabs a", has_text="Cells").press("Enter")
    settle(page)
    page.locator(".cells .id a").first.press("Enter")
    settle(page)
    first = page.locator("h1 .id").inner_text()
    page.keyboard.press("j")
    settle(page)
    assert page.locator("h1 .id").inner_text() != first
    page.keyboard.press("k")
    settle(page)
    assert page.locator("h1 .id").inner_text() == first


def test_themes_can_be_read(opened: Opened) -> None:
    """All text has a contrast of 4.5 to what is behind it; a button changes the theme."""
    page = opened()
    for view in (*(f"view={one}" for one in VIEWS[:4]), address(cell=THIS)):
        visit(page, view)
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            assert page.evaluate(CONTRAST) == [], f"{view}, {theme}"
    ink = "getComputedStyle(document.body).color"
    before = page.evaluate(ink)
    page.locator(".theme").click()
    assert page.evaluate(ink) != before


def test_nothing_is_wider_than_the_window(opened: Opened) -> None:
    """Tables scroll in themselves, if at all."""
    page = opened()
    for width in (390, 800, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        for view in (*(f"view={one}" for one in VIEWS), address(cell=THIS)):
            visit(page, view)
            fits = page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert fits, f"{view}, {width}"


def test_on_paper(opened: Opened) -> None:
    """Without what can only be clicked, with all that is folded."""
    page = opened(address(**HERE), color_scheme="dark")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#words").is_hidden() and page.locator(".tabs").is_hidden()
    assert page.locator(".chosen").count() == 2 and page.locator(".chosen").first.is_visible()
    assert page.locator(".reasons li").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert len(page.pdf()) > 10_000


def test_known_outcomes_have_symbols_in_text(opened: Opened) -> None:
    """Colour says nothing that a symbol doesn't."""
    page = opened(address(**HERE))
    for mark in page.locator(".mark").all_inner_texts():
        assert any(symbol in mark for symbol in SYMBOLS.values())
    total = page.locator(".total").inner_text()
    (xeon,) = VERIFIED.glob("cpu-*xeon*.jsonl")
    assert set(figures(total)) == {SYMBOLS[o] for o in counts(Store(xeon).read())} | {"✗"}
