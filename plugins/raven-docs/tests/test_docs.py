"""The pages: what they send, what they may load, and that the quickstart's lines run as they stand."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from raven_docs.pages import SNIPPETS, read_snippet

from raven_proxy.harness import ADMINISTRATOR

PAGES = [
    "/docs", "/docs/swagger.js", "/docs/swagger-ui.js", "/docs/swagger-ui.css", "/docs/quickstart",
    "/docs/quickstart.js", "/docs/quickstart.css",
]  # fmt: skip
BASE = ("docs", "demo", "openai")


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_needs_no_key_and_loads_nothing_from_elsewhere(raven: Any, path: str) -> None:
    """Its policy lets it load its own files only; what is ours names no other host."""
    gateway = await raven(base=BASE)
    async with gateway.client.get(path, headers={"Authorization": ""}) as reply:
        body = await reply.text()
    assert reply.status == 200
    assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    if not path.startswith("/docs/swagger-ui"):
        assert not re.search(r"https?://(?!127\.0\.0\.1)", body)
        assert not re.search(r"<script(?![^>]*src=)|<style|\son[a-z]+=|\sstyle=|javascript:|innerHTML", body)


async def test_an_operator_can_close_the_pages(raven: Any) -> None:
    """Then they take a key with models:read."""
    nobody = msgspec.structs.replace(ADMINISTRATOR, scopes=frozenset({"chat:write"}))
    for principal, status in ((ADMINISTRATOR, 200), (nobody, 403)):
        gateway = await raven(base=BASE, config={"plugin": {"docs": {"public": False}}}, principal=principal)
        async with gateway.client.get("/docs") as reply:
            assert reply.status == status
        async with gateway.client.get("/docs", headers={"Authorization": ""}) as reply:
            assert reply.status == 401


async def test_the_quickstart_shows_every_snippet(raven: Any) -> None:
    """In its order, and escaped."""
    gateway = await raven(base=BASE)
    async with gateway.client.get("/docs/quickstart") as reply:
        page = await reply.text()
    places = [page.index(f'<h2 id="{name.lower()}">') for name in SNIPPETS]
    assert places == sorted(places)
    assert "$sections" not in page
    assert "&quot;Authorization: Bearer $RAVEN_KEY&quot;" in page


@pytest.mark.parametrize("name", SNIPPETS)
async def test_a_snippet_runs_as_it_stands(raven: Any, name: str, tmp_path: Path) -> None:
    """With this gateway's address in the place of the example's, as the page's script does it."""
    gateway = await raven(base=BASE)
    file, _ = SNIPPETS[name]
    script = tmp_path / file
    script.write_text(read_snippet(name).replace("http://127.0.0.1:4000", gateway.url))
    command = find_command(name, tmp_path)
    environment = {**os.environ, "RAVEN_KEY": gateway.key}
    process = await asyncio.create_subprocess_exec(
        *command, str(script), env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, complained = await process.communicate()
    assert process.returncode == 0, complained.decode()
    assert "Hello" in said.decode(), complained.decode()


def find_command(name: str, folder: Path) -> list[str]:
    """Give what runs a snippet, or say why it cannot run here."""
    if name == "curl":
        need("curl", shutil.which("curl"))
        return [need("sh", shutil.which("sh"))]
    if name == "Node":
        modules = Path(__file__).parents[3] / "tests" / "clients" / "node_modules"
        need("the Node client of OpenAI", (modules / "openai").is_dir())
        (folder / "node_modules").symlink_to(modules)
        return [need("node", shutil.which("node"))]
    module = {"Python": "openai", "LangChain": "langchain_openai"}[name]
    need(module, importlib.util.find_spec(module))
    return [sys.executable]


def need(what: str, found: Any) -> Any:
    """Skip where something is not installed; in CI it must be."""
    if not found:
        reason = f"{what} is not here; make test and tests/install bring it"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return found


async def test_swagger_ui_shows_the_routes(raven: Any) -> None:
    """In a real Chromium: every tag is there, nothing fails and nothing is asked of anybody else."""
    async_api = need("playwright", importlib.util.find_spec("playwright")) and importlib.import_module(
        "playwright.async_api"
    )
    browser_path = need("Chromium", shutil.which("chromium") or shutil.which("google-chrome"))
    gateway = await raven(base=BASE)
    faults: list[str] = []
    asked: list[str] = []
    async with async_api.async_playwright() as engine:
        browser = await engine.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = await browser.new_page()
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(f"{gateway.url}/docs")
        await page.wait_for_selector(".opblock-tag-section")
        tags = await page.eval_on_selector_all("[data-tag]", "all => all.map(one => one.dataset.tag)")
        await page.goto(f"{gateway.url}/docs/quickstart")
        shown = await page.text_content("main")
        await browser.close()
    assert {"gateway", "models", "proxy"} <= set(tags)
    assert gateway.url in shown
    assert "127.0.0.1:4000" not in shown
    assert faults == []
    assert all(one.startswith((gateway.url, "data:")) for one in asked), asked
