"""The page /docs/pricing in a real Chromium: found, sorted and read by mouse, keyboard and phone, and inert.

Chromium comes with `tests/install`; where it is not there these tests are skipped, in CI they fail.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

playwright: Any = None
with suppress(ImportError):
    from playwright import async_api as playwright

EVIL = '<img src=x onerror="document.title=1">'
OWN = {
    EVIL: {"provider": EVIL, "input": "1.5", "output": "3", "context_window": 4096},
    "zz-tuned": {"input": "0.07", "output": "0.14", "multiplier": "1.2", "image": "0.04"},
}
PHONE = {"width": 375, "height": 700}
DESK = {"width": 1280, "height": 800}


def find_chromium() -> str:
    assert playwright is not None or not os.environ.get("CI"), "playwright is not installed"
    if playwright is None:
        pytest.skip("playwright is not installed; make test installs it")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        reason = "no Chromium on this machine; tests/install installs it"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return found


class Open:
    """The page in a browser, and what went wrong in it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.faults: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda said: self.faults.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    async def names(self) -> list[str]:
        found: list[str] = await self.page.eval_on_selector_all(
            "td.model > span", "all => all.map(one => one.firstChild.data)"
        )
        return found

    async def status(self) -> str:
        return str(await self.page.text_content("#status"))

    async def wait_for(self, text: str) -> None:
        await self.page.wait_for_function(
            "text => document.getElementById('status').textContent.includes(text)", arg=text
        )


@pytest.fixture
async def url(raven: Any, tmp_path: Path) -> str:
    catalog = tmp_path / "catalog.json"
    catalog.write_bytes(msgspec.json.encode(OWN))
    gateway = await raven(base=("meter", "demo"), config={"catalog": str(catalog)})
    return f"{gateway.url}/docs/pricing"


@asynccontextmanager
async def opened(url: str, size: dict[str, int] = DESK, **options: Any) -> AsyncIterator[Open]:
    """Load the page; afterwards nothing was reported and nothing was asked of anybody else."""
    path = find_chromium()
    async with playwright.async_playwright() as engine:
        browser = await engine.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            context = await browser.new_context(viewport=size, locale="en-US", **options)
            seen = Open(await context.new_page())
            await seen.page.goto(url)
            await seen.wait_for("models")
            yield seen
            assert [fault for fault in seen.faults if "favicon" not in fault] == []
            origin = url.removesuffix("/docs/pricing")
            assert all(one.startswith(origin) for one in seen.asked), seen.asked
        finally:
            await browser.close()


async def test_a_model_is_found_among_two_thousand(url: str) -> None:
    """A hundred rows at first, more on request; the filter takes words in any order, at once."""
    async with opened(url) as seen:
        assert len(await seen.names()) == 100
        assert "the first 100 are shown" in await seen.status()
        await seen.page.click("#more")
        assert len(await seen.names()) == 200
        began = await seen.page.evaluate("performance.now()")
        await seen.page.fill("#filter", "HAIKU anthropic")
        await seen.wait_for("that match")
        assert await seen.page.evaluate("performance.now()") - began < 1000
        names = await seen.names()
        assert 0 < len(names) < 100
        assert all("haiku" in name for name in names)
        await seen.page.fill("#filter", "no such model")
        await seen.wait_for("0 models that match")
        assert await seen.page.is_hidden("#more")


async def test_what_is_stored_is_shown_as_text(url: str) -> None:
    """T141: a name that is markup stays a name; the page's policy lets nothing else run or load."""
    async with opened(url) as seen:
        await seen.page.fill("#filter", "onerror")
        await seen.wait_for("1 models that match")
        assert await seen.names() == [EVIL]
        assert await seen.page.query_selector("img") is None
        assert await seen.page.title() == "Models and prices"
        injected = await seen.page.evaluate(
            """() => new Promise(done => {
                 const tell = event => done(event.effectiveDirective);
                 document.addEventListener("securitypolicyviolation", tell);
                 try {
                   const made = document.createElement("script");
                   made.textContent = "document.title = 'run'";
                   document.body.append(made);
                 } catch (error) { done("refused"); }
               })"""
        )
        assert injected in {"refused", "require-trusted-types-for", "script-src-elem"}
        assert await seen.page.title() == "Models and prices"
        seen.faults.clear()


async def test_prices_are_the_operators_over_the_packaged_ones(url: str) -> None:
    """With the multiplier and the finer kinds beside them."""
    async with opened(url) as seen:
        await seen.page.fill("#filter", "zz-tuned")
        await seen.wait_for("1 models that match")
        cells = await seen.page.eval_on_selector_all("tbody td", "all => all.map(one => one.textContent)")
        assert cells == [
            "any",
            "zz-tuned",
            "",
            "$0.07",
            "$0.14",
            "",
            "",
            "set here; times 1.2; $0.04 an image",
        ]


async def test_it_is_used_by_keyboard_alone(url: str) -> None:
    """Tab reaches filter, column heads and the button; Enter sorts; the order is said to readers."""
    async with opened(url) as seen:
        await seen.page.keyboard.press("Tab")
        assert await seen.page.evaluate("document.activeElement.id") == "filter"
        await seen.page.keyboard.type("gpt-4o")
        await seen.wait_for("that match")
        for _ in range(4):  # provider, model, context, input
            await seen.page.keyboard.press("Tab")
        for order, step in (("ascending", 1), ("descending", -1)):
            await seen.page.keyboard.press("Enter")
            assert await seen.page.get_attribute("th:nth-child(4)", "aria-sort") == order
            shown = await seen.page.eval_on_selector_all(
                "td:nth-child(4)", "all => all.map(one => Number(one.textContent.slice(1)))"
            )
            prices = [price for price in shown if price]
            assert prices == sorted(prices, reverse=step < 0)
        outline = await seen.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", "where the keyboard is can be seen"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_is_readable_on_a_phone_and_in_the_dark(url: str, scheme: Any, tmp_path: Path) -> None:
    """Nothing sticks out to the side, every figure has its label, and text stands out from its ground."""
    async with opened(url, PHONE, color_scheme=scheme) as seen:
        wide = await seen.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= PHONE["width"]
        labels = await seen.page.evaluate(
            "[...document.querySelectorAll('tbody tr:nth-child(5) td')]"
            ".map(one => getComputedStyle(one, '::before').content)"
        )
        assert '"Input"' in labels
        for selector in ("body", "p", "td.model", "td.notes", "#more", "#status"):
            assert await contrast(seen.page, selector) >= 4.5, selector
        folder = os.environ.get("RAVEN_SCREENSHOTS")
        if folder:
            await seen.page.screenshot(path=str(Path(folder) / f"pricing-phone-{scheme}.png"))
            await seen.page.set_viewport_size(DESK)
            await seen.page.screenshot(path=str(Path(folder) / f"pricing-desk-{scheme}.png"))


async def contrast(page: Any, selector: str) -> float:
    """Compute WCAG's ratio of an element's text and the ground that it stands on."""
    colors = await page.eval_on_selector(
        selector,
        """one => {
             let ground = one;
             while (ground && getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)")
               ground = ground.parentElement;
             const read = text => text.match(/[0-9.]+/g).slice(0, 3).map(Number);
             return [read(getComputedStyle(one).color), read(getComputedStyle(ground).backgroundColor)];
           }""",
    )
    light, dark = sorted((luminance(color) for color in colors), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color: list[float]) -> float:
    parts = [part / 255 for part in color]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
