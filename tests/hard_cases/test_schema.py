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
_PLUGINS = ("auth-keys", "access", "idempotency", "limits", "meter", "alerts", "byok", "providers",
           "openai", "anthropic",
            "docs", "demo")  # fmt: skip


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "examples",
    [pytest.param(15, id="short"), pytest.param(400, id="long", marks=pytest.mark.soak)],
)
async def test_every_answer_is_as_the_document_says(tmp_path: Path, examples: int) -> None:
    """Example by example and in sequences: never a 5xx, never another status, type or shape than promised."""
    if importlib.util.find_spec("schemathesis") is None:
        reason = "schemathesis is not installed; make test installs it"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    config = tmp_path / "raven.toml"
    config.write_text(f"data_dir = 'data'\nplugins = {list(_PLUGINS)!r}\n")
    async with serve(config) as gateway:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/openapi.json",
            "--checks", ",".join(_CHECKS.split()), "--max-examples", str(examples),
            "--exclude-path", "/reload", "--exclude-path", "/logs/stream",  # which does not end
            "--phases", "examples,coverage,fuzzing,stateful", "--generation-database", "none", "--no-color",
            "--header", f"Authorization: Bearer {ADMIN_KEY}",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=tmp_path,
        )  # fmt: skip
        said, _ = await process.communicate()
    text = said.decode()
    generated = re.search(r"([\d,]+) generated", text)
    assert generated is not None, text[-2000:]
    assert int(generated[1].replace(",", "")) > 500
    assert process.returncode == 0, text[-6000:]
