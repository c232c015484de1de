"""The README's commands do what it says."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path

import pytest

from raven_proxy.harness import ADMIN_KEY

from .conftest import House

BLOCKS = re.findall(r"(?ms)^```sh\n(.*?)^```$", (Path(__file__).parents[1] / "README.md").read_text())


async def test_the_commands_run_one_after_the_other(house: House, tmp_path: Path) -> None:
    """Set up, found, invite, sign in, make a key, sign out: each succeeds."""
    if not shutil.which("curl"):
        pytest.fail("curl is not installed") if os.environ.get("CI") else pytest.skip("curl is not installed")
    script = "\n".join(BLOCKS).replace("curl ", "curl -sS --fail-with-body ")
    assert len(BLOCKS) == 3
    process = await asyncio.create_subprocess_exec(
        "bash", "-euxo", "pipefail", "-c", script,
        env={"PATH": os.environ["PATH"], "G": house.running.url, "ADMIN": ADMIN_KEY}, cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, errors = await process.communicate()
    assert process.returncode == 0, (said, errors)
    assert '"email":"ann@example.com"' in said.decode()
    assert said.decode().endswith('{"success":true}')
    assert [row["name"] for row in await house.gateway.storage.fetch_all("SELECT name FROM keys")] == ["mine"]
