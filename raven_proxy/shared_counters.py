"""Counters that the processes of one machine share: a small SQLite file of its own.

The file holds nothing that the books do not know better, so it is not synced to disk. A step is one
transaction of some 20 µs in the process itself, without a thread to wait for. What a process holds dies
with it: the next one that opens the file gives it back.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from .counters import SLICES, Claim, Denial, later
from .errors import GatewayError

__all__ = ["SharedCounters"]

# Longer than this the others do not take; then nobody is admitted rather than everybody. Waiting holds up the
# whole process, so that after one such wait the next are short, until a step succeeds.
_PATIENCE_MS = 200
_IMPATIENCE_MS = 5
_SWEEP_EVERY = 4096
_SETTLED = 0  # in the place of a process: what belongs to nobody in particular
_TABLES = """
CREATE TABLE IF NOT EXISTS windows (
  key TEXT, window_s INTEGER, slice INTEGER, used INTEGER NOT NULL, PRIMARY KEY (key, window_s, slice)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS amounts (
  key TEXT, process INTEGER, amount INTEGER NOT NULL, PRIMARY KEY (key, process)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS processes (number INTEGER PRIMARY KEY, pid INTEGER, born TEXT);
"""


class SharedCounters:
    """One process's view of the file. Opening it gives back what processes that are gone had held."""

    def __init__(self, path: Path) -> None:
        self._until_sweep = _SWEEP_EVERY
        self._db = sqlite3.connect(path, timeout=_PATIENCE_MS / 1000, isolation_level=None)
        self._is_open = False  # the breaker: the file was out of reach when it was last asked
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.executescript(_TABLES)
        with self._step() as db:
            for number, pid, born in db.execute("SELECT number, pid, born FROM processes").fetchall():
                if _birth(pid) != born:
                    self._forget(db, number)
            if db.execute("SELECT 1 FROM processes").fetchone() is None:
                db.execute("DELETE FROM amounts")  # nobody was there: the books know better
            row = db.execute(
                "INSERT INTO processes (pid, born) VALUES (?, ?) RETURNING number",
                (os.getpid(), _birth(os.getpid())),
            ).fetchone()
        self._number = int(row[0])

    def close(self) -> None:
        """Give back what is held, and let go of the file."""
        with contextlib.suppress(GatewayError), self._step() as db:
            self._forget(db, self._number)
        self._db.close()

    async def take(self, claims: Sequence[Claim]) -> Denial | None:
        """Take all of `claims`, or none of them and say which one was too much.

        Raises GatewayError (503) where the file cannot be written in time: then nobody is admitted.
        """
        now = time.time()
        denied: Denial | None = None
        with self._step() as db:
            for claim in claims:
                used = self._read(db, claim.key, claim.window_s, now)
                if used + claim.amount > claim.limit:
                    denied = later(denied, Denial(claim, used, self._wait_s(db, claim, now, used)))
            if denied is not None:
                return denied
            for claim in claims:
                if claim.window_s:
                    self._add_to_window(db, claim.key, claim.window_s, claim.amount, now)
                else:
                    self._add(db, claim.key, self._number, claim.amount)
            self._until_sweep -= len(claims)
            if self._until_sweep <= 0:
                self._until_sweep = _SWEEP_EVERY
                db.execute(
                    "DELETE FROM windows WHERE slice < CAST(? * ? / window_s AS INTEGER) - ?",
                    (now, SLICES, SLICES),
                )
        return None

    async def correct(self, key: str, window_s: int, difference: int) -> None:
        """Correct what was taken in a window."""
        now = time.time()
        with self._step() as db:
            if difference < 0:
                self._take_back(db, key, window_s, -difference, now)
            elif difference:
                self._add_to_window(db, key, window_s, difference, now)

    async def settle(self, keys: Sequence[str], held: int, actual: int) -> None:
        """End a hold on each of `keys`."""
        with self._step() as db:
            for key in keys:
                self._add(db, key, self._number, -held)
                db.execute("DELETE FROM amounts WHERE key = ? AND amount <= 0 AND process > 0", (key,))
                if actual:
                    self._add(db, key, _SETTLED, actual)

    async def used(self, key: str, window_s: int = 0) -> int:
        """Say what is in use."""
        return self._read(self._db, key, window_s, time.time())

    async def used_of(self, claims: Sequence[Claim]) -> list[int]:
        """Say what is in use of what each claim is about."""
        now = time.time()
        return [self._read(self._db, claim.key, claim.window_s, now) for claim in claims]

    async def held(self, key: str) -> int:
        """Say what is held and not settled."""
        row = self._db.execute(
            "SELECT COALESCE(SUM(amount), 0) FROM amounts WHERE key = ? AND process > 0", (key,)
        ).fetchone()
        return int(row[0])

    async def load(self, totals: Mapping[str, int], *, keep: bool = False) -> None:
        """Set totals to what the books say."""
        what = "NOTHING" if keep else "UPDATE SET amount = excluded.amount"
        with self._step() as db:
            db.executemany(
                f"""INSERT INTO amounts (key, process, amount) VALUES (?, ?, ?)
                    ON CONFLICT (key, process) DO {what}""",  # noqa: S608 - two texts of our own
                [(key, _SETTLED, amount) for key, amount in totals.items()],
            )

    async def missing(self, keys: Iterable[str]) -> list[str]:
        """List those of `keys` that have no total."""
        try:
            rows = self._db.execute("SELECT key FROM amounts WHERE process = ?", (_SETTLED,)).fetchall()
        except sqlite3.Error as error:
            raise _out_of_reach() from error
        known = {key for (key,) in rows}
        return [key for key in keys if key not in known]

    async def forget(self, keys: Iterable[str]) -> None:
        """Drop totals."""
        with self._step() as db:
            db.executemany(
                "DELETE FROM amounts WHERE key = ? AND process = ?", [(key, _SETTLED) for key in keys]
            )

    @contextlib.contextmanager
    def _step(self) -> Iterator[sqlite3.Connection]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk may have ended it, or may not
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            self._break(is_open=True)
            raise _out_of_reach() from error
        self._break(is_open=False)

    def _break(self, *, is_open: bool) -> None:
        if is_open is not self._is_open:
            self._is_open = is_open
            self._db.execute(f"PRAGMA busy_timeout = {_IMPATIENCE_MS if is_open else _PATIENCE_MS}")

    @staticmethod
    def _forget(db: sqlite3.Connection, number: int) -> None:
        db.execute("DELETE FROM amounts WHERE process = ?", (number,))
        db.execute("DELETE FROM processes WHERE number = ?", (number,))

    @staticmethod
    def _read(db: sqlite3.Connection, key: str, window_s: int, now: float) -> int:
        if not window_s:
            query = "SELECT COALESCE(SUM(amount), 0) FROM amounts WHERE key = ?"
            return int(db.execute(query, (key,)).fetchone()[0])
        query = "SELECT COALESCE(SUM(used), 0) FROM windows WHERE key = ? AND window_s = ? AND slice >= ?"
        return int(db.execute(query, (key, window_s, _slice(window_s, now) - SLICES)).fetchone()[0])

    @staticmethod
    def _add(db: sqlite3.Connection, key: str, process: int, amount: int) -> None:
        db.execute(
            """INSERT INTO amounts (key, process, amount) VALUES (?, ?, ?)
               ON CONFLICT (key, process) DO UPDATE SET amount = amounts.amount + excluded.amount""",
            (key, process, amount),
        )

    @staticmethod
    def _add_to_window(db: sqlite3.Connection, key: str, window_s: int, amount: int, now: float) -> None:
        db.execute(
            """INSERT INTO windows (key, window_s, slice, used) VALUES (?, ?, ?, ?)
               ON CONFLICT (key, window_s, slice) DO UPDATE SET used = windows.used + excluded.used""",
            (key, window_s, _slice(window_s, now), amount),
        )

    @staticmethod
    def _take_back(db: sqlite3.Connection, key: str, window_s: int, amount: int, now: float) -> None:
        where = "key = ? AND window_s = ? AND slice"
        oldest = _slice(window_s, now) - SLICES
        rows = db.execute(
            f"SELECT slice, used FROM windows WHERE {where} >= ? ORDER BY slice",  # noqa: S608 - our own text
            (key, window_s, oldest),
        ).fetchall()
        for number, used in rows:
            part = min(amount, used)
            amount -= part
            db.execute(
                f"UPDATE windows SET used = used - ? WHERE {where} = ?",  # noqa: S608 - our own text
                (part, key, window_s, number),
            )
            if not amount:
                break

    @staticmethod
    def _wait_s(db: sqlite3.Connection, claim: Claim, now: float, used: int) -> float | None:
        if not claim.window_s or claim.amount > claim.limit:
            return None
        slice_s = claim.window_s / SLICES
        needed = used + claim.amount - claim.limit
        last = _slice(claim.window_s, now)
        rows = db.execute(
            "SELECT slice, used FROM windows WHERE key = ? AND window_s = ? AND slice >= ? ORDER BY slice",
            (claim.key, claim.window_s, last - SLICES),
        )
        for number, amount in rows:
            last = number
            needed -= amount
            if needed <= 0:
                break
        return float((last + SLICES + 1) * slice_s - now)


def _out_of_reach() -> GatewayError:
    return GatewayError("The gateway cannot count this request.", status=503, code="service_unavailable")


def _slice(window_s: int, now: float) -> int:
    return int(now * SLICES / window_s)


def _birth(pid: int) -> str:
    """Tell a process from a later one of the same number by when it began; "" if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]  # proc_pid_stat(5): starttime
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except OSError:
        return ""
    return "alive"
