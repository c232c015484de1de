"""How workers know of each other's reloads."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raven_proxy import roster
from raven_proxy.errors import ConfigError
from raven_proxy.roster import Roster


def sibling(folder: Path, moment: float, failure: str = "") -> subprocess.Popen[bytes]:
    """Another process, alive, that reported once."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (folder / "workers").mkdir(exist_ok=True)
    (folder / "workers" / f"{os.getppid()}-{process.pid}").write_text(f"{moment}\n{failure}")
    return process


async def test_it_waits_for_who_is_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reported is done, who failed is an error, who is silent too long as well; the dead do not count."""
    monkeypatch.setattr(roster, "_PATIENCE_S", 0.1)
    own = Roster(tmp_path)
    own.report()
    since = time.time()
    (tmp_path / "workers" / f"{os.getppid()}-999999999").write_text("0\n")
    await own.wait_for_others(since)
    process = sibling(tmp_path, since + 1)
    try:
        await own.wait_for_others(since)
        with pytest.raises(ConfigError, match=r"1 worker\(s\) have not changed over"):
            await own.wait_for_others(since + 2)
        (tmp_path / "workers" / f"{os.getppid()}-{process.pid}").write_text(f"{since + 1}\nbroken")
        with pytest.raises(ConfigError, match="could not change over: broken"):
            await own.wait_for_others(since)
    finally:
        process.kill()
        process.wait()
    own.leave()
    own.leave()
    await own.wait_for_others(since)
