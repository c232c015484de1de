"""How workers know of each other's reloads."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raven_proxy import roster
from raven_proxy.changes import Changes
from raven_proxy.errors import ConfigError
from raven_proxy.roster import Roster
from raven_proxy.tasks import Tasks


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


async def test_a_change_is_waited_for_where_it_does_not_hold_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every worker that lives; one that hangs is not waited for longer than a second."""
    monkeypatch.setattr(roster, "_CATCH_UP_S", 60.0)
    own = Roster(tmp_path)
    own.report_held({"keys": 9})
    await own.wait_until_held({"keys": 9})
    process = sibling(tmp_path, 0.0)
    theirs = tmp_path / "workers" / f"{os.getppid()}-{process.pid}.held"
    try:
        waiting = Tasks().spawn(own.wait_until_held({"keys": 2, "orgs": 1}), "waiting")
        for held in (None, "{}", '{"keys":2}', '{"keys":1,"orgs":7}'):
            if held is not None:
                theirs.write_text(held)
            await asyncio.sleep(0.1)
            assert not waiting.done()
        theirs.write_text('{"keys":2,"orgs":1,"members":4}')
        await asyncio.wait_for(waiting, 30)
        monkeypatch.setattr(roster, "_CATCH_UP_S", 0.05)
        await own.wait_until_held({"keys": 3})
    finally:
        process.kill()
        process.wait()
    monkeypatch.setattr(roster, "_CATCH_UP_S", 60.0)
    await own.wait_until_held({"keys": 3})
    own.leave()
    assert not (tmp_path / "workers" / f"{os.getppid()}-{os.getpid()}.held").exists()


async def test_a_change_holds_when_its_watchers_are_done() -> None:
    """Not when they are called, and not while one of them fails."""
    told: list[dict[str, int]] = []
    moves: list[str] = []

    async def version() -> int:
        return len(moves)

    async def generations() -> dict[str, int]:
        return {"keys": 1}

    async def watch() -> None:
        assert not told
        moves.append("called")
        if len(moves) == 1:
            raise ValueError

    changes = Changes(version, generations)
    changes.on_held = lambda held: told.append(dict(held))
    changes.watch("keys", watch)
    await changes.announce("keys", 1)
    assert (moves, told) == (["called"], [])
    await changes._look()
    assert (moves, told) == (["called"] * 2, [{"keys": 1}])
