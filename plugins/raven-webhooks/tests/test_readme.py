"""The README: its table is true, its code judges real deliveries, its curl lines run."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from raven_webhooks.outbox import PAUSES_S
from raven_webhooks.sending import sign
from raven_webhooks.topics import TOPICS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"(?ms)^```{kind}\n(.*?)^```$", README)


def test_the_table_has_every_event() -> None:
    shown = dict(re.findall(r"(?m)^\| `([a-z_.]+)` \| (.*) \|$", README))
    assert shown == TOPICS


def test_the_code_knows_a_signature() -> None:
    """A true one passes; another secret, body or moment does not."""
    [code] = blocks("python")
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)  # it defines one function
    is_ours, body = names["is_ours"], b'{"id": "evt_1"}'
    header = sign("secret", body)
    assert is_ours("secret", header, body)
    assert not is_ours("other", header, body)
    assert not is_ours("secret", header, body + b" ")
    assert not is_ours("secret", sign("secret", body, time.time() - 400), body)


def test_the_pauses_are_those_that_are_written() -> None:
    units = {"s": 1, "min": 60, "h": 3600}
    [text] = re.findall(r"tried again after (.*?)\. What", README.replace("\n", " "))
    shown = [float(number) * units[unit] for number, unit in re.findall(r"(\d+) (s|min|h)\b", text)]
    assert shown == [*PAUSES_S] or PAUSES_S == (0.05, 0.1)  # the tests' own
    assert shown == [5, 30, 120, 600, 1800, 7200, 21600, 43200]


async def test_a_curl_line_runs(site: Any) -> None:
    if shutil.which("curl") is None:
        pytest.fail("curl is not installed") if os.environ.get("CI") else pytest.skip("curl is not installed")
    desk = await site(allow_private=False)
    [line] = blocks("sh")
    line = line.replace("http://127.0.0.1:4000", desk.running.url).replace("curl ", "curl -sS --fail ")
    process = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c", line,
        stdout=asyncio.subprocess.PIPE, env={**os.environ, "RAVEN_KEY": desk.running.key},
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert msgspec.json.decode(output)["secret"].startswith("whsec_")
