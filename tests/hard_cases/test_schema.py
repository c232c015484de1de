"""What `/openapi.json` promises is kept, whatever is sent: schemathesis against a running gateway.

All its checks but two: a cursor and a model have to be known, which no schema can say, so valid requests may
be refused; and what is passed over in a body (an id that was read) is no error, so not every odd body is.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import sys
from pathlib import Path

import pytest

from raven_proxy.harness import ADMIN_KEY

from .running import serve

_CHECKS = """
    not_a_server_error status_code_conformance content_type_conformance response_headers_conformance
    response_schema_conformance unsupported_method use_after_free ensure_resource_availability
    missing_required_header ignored_auth
"""
_PLUGINS = ("auth-keys", "accounts", "access", "idempotency", "limits", "meter", "alerts", "webhooks",
            "guardrails", "byok", "providers", "openai", "anthropic", "docs", "demo", "bodies")  # fmt: skip
_ALONE = "^/providers"
"""What is seen by itself: a provider that was made serves the other paths too, and nobody is there."""
_NOWHERE = """
from raven_providers import rules
from raven_proxy import UpstreamError, hookimpl
from raven_proxy.upstream import Upstream


@hookimpl
async def startup(gateway):
    async def connect(self):
        raise UpstreamError("This test calls nobody.")

    async def find_private(url):
        return "private" in url

    Upstream._connect, rules.find_private = connect, find_private
"""


@pytest.mark.parametrize("paths", [("--exclude-path-regex", _ALONE), ("--include-path-regex", _ALONE)])
@pytest.mark.parametrize(
    "examples",
    [
        pytest.param(15, id="short", marks=pytest.mark.timeout(300)),
        pytest.param(400, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(1800)]),
    ],
)
async def test_every_answer_is_as_the_document_says(
    tmp_path: Path, examples: int, paths: tuple[str, str]
) -> None:
    """Example by example and in sequences: never a 5xx, never another status, type or shape than promised."""
    if importlib.util.find_spec("schemathesis") is None:
        reason = "schemathesis is not installed; make test installs it"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    config = tmp_path / "raven.toml"
    config.write_text(f"data_dir = 'data'\nplugins = {list(_PLUGINS)!r}\nplugins_dir = 'drop-ins'\n")
    (tmp_path / "drop-ins").mkdir()
    (tmp_path / "drop-ins" / "nowhere.py").write_text(_NOWHERE)
    async with serve(config) as gateway:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/openapi.json",
            "--checks", ",".join(_CHECKS.split()), "--max-examples", str(examples),
            *paths, "--exclude-path", "/reload", "--exclude-path", "/logs/stream",  # which does not end
            "--exclude-path", "/webhooks/{id}/test",  # which calls whatever address was made up
            "--phases", "examples,coverage,fuzzing,stateful", "--generation-database", "none", "--no-color",
            "--header", f"Authorization: Bearer {ADMIN_KEY}",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=tmp_path,
        )  # fmt: skip
        said, _ = await process.communicate()
    text = said.decode()
    generated = re.search(r"([\d,]+) generated", text)
    assert generated is not None, text[-2000:]
    assert int(generated[1].replace(",", "")) > (500 if paths[0].startswith("--exclude") else 100)
    assert process.returncode == 0, text[-6000:]
