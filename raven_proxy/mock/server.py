"""The mock upstream itself: listens, keeps what it saw, decides what is answered.

Responsible for life and death of its connections, for the order in which scripts, handler and
default vendor are asked, and for the control paths; leaves the bytes to `connection.py`.
"""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import count
from ssl import SSLContext
from typing import Any, Self

import msgspec

from .connection import Connection
from .faults import error_reply, misbehave
from .scripts import ScriptedReply, Seen
from .vendor import answer

__all__ = ["MockUpstream", "serve"]

Handler = Callable[[Seen], Awaitable[ScriptedReply | None]]

_CONTROL = frozenset({"/_seen", "/_script"})


class MockUpstream:
    """A fake provider on `host`; enter it to listen, leave it to close all it has opened.

    `seen` holds the requests in the order of their last byte, at most `max_seen` of them.
    The answer to each is the next one scripted, else what `handler` returns unless None, else
    the default vendor's. An exception of `handler` resets the connection and is raised again
    at the exit, in an ExceptionGroup. Times in `Seen` are Unix seconds.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tls: SSLContext | None = None,
        max_seen: int = 10_000,
    ) -> None:
        self.seen: list[Seen] = []
        self.handler: Handler | None = None
        self.connections_opened = 0
        self._address = (host, port)
        self._tls = tls
        self._max_seen = max_seen
        self._scripted: deque[ScriptedReply] = deque()
        self._open: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[Exception] = []
        self._numbers = count(1)
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        host, port = self._address
        self._server = await loop.create_server(lambda: Connection(self), host, port, ssl=self._tls)
        self._address = (host, self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self.close()
        if self._failures and kind is None:
            raise ExceptionGroup("the mock upstream failed to answer", self._failures)

    @property
    def origin(self) -> str:
        """Scheme, host and port, without a path."""
        host, port = self._address
        return f"{'https' if self._tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def url(self) -> str:
        """The base URL for an OpenAI client: the origin and /v1."""
        return f"{self.origin}/v1"

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._open)

    @property
    def scripted(self) -> int:
        """How many scripted replies have not been used yet."""
        return len(self._scripted)

    def script(self, *replies: ScriptedReply) -> None:
        """Queue replies: each answers one request, before the handler and the default vendor."""
        self._scripted.extend(replies)

    def reply(self, *, json: object = None, events: list[object] | None = None, **fields: Any) -> None:
        """Queue one reply from the fields of `ScriptedReply`; `json` or `events` in place of a body."""
        if events is not None:
            self.script(ScriptedReply.of_events(events, **fields))
        else:
            self.script(ScriptedReply(**fields) if json is None else ScriptedReply.of_json(json, **fields))

    async def wait_until(self, true: Callable[[], object], timeout_s: float = 2.0) -> None:
        """Return when `true()` is, looked at every 5 ms; raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while not true():
                await asyncio.sleep(0.005)

    def drop_connections(self, *, reset: bool = False) -> None:
        """Close every connection now, idle or not, by FIN or by RST; unsent bytes are lost."""
        for connection in list(self._open):
            connection.drop(reset=reset)

    async def close(self) -> None:
        """Stop listening and close every connection; returns when all are gone."""
        if self._server is None:
            return
        self._server.close()
        gone = [connection.gone.wait() for connection in self._open]
        self.drop_connections()
        await asyncio.gather(*gone, *self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    def enter(self, connection: Connection) -> int:
        """Take a new connection and start its task; for `Connection` alone."""
        self._open.add(connection)
        self.connections_opened += 1
        task = asyncio.get_running_loop().create_task(connection.answer_all())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        connection.task = task
        return next(self._numbers)

    def leave(self, connection: Connection) -> None:
        """Forget a connection that is closed; for `Connection` alone."""
        self._open.discard(connection)

    def failed(self, error: Exception) -> None:
        """Keep an error for the exit; for `Connection` alone."""
        self._failures.append(error)

    def record(self, seen: Seen) -> None:
        """Keep a request, unless it is for us; for `Connection` alone."""
        if seen.path not in _CONTROL:
            self.seen.append(seen)
            del self.seen[: -self._max_seen]

    async def reply_to(self, seen: Seen) -> ScriptedReply:
        """Decide on the answer; for `Connection` alone."""
        if seen.path in _CONTROL:
            return self._control(seen)
        if self._scripted:
            return self._scripted.popleft()
        scripted = await self.handler(seen) if self.handler else None
        if scripted is not None:
            return scripted
        usual, model = answer(seen), seen.model
        return misbehave(model, seen, usual) if model.startswith("fx-") else usual

    def _control(self, seen: Seen) -> ScriptedReply:
        match seen.method, seen.path:
            case "GET", "/_seen":
                return ScriptedReply.of_json([_as_json(one) for one in self.seen])
            case "DELETE", "/_seen":
                self.seen.clear()
                return ScriptedReply(status=204)
            case "POST", "/_script":
                try:
                    pushed = msgspec.json.decode(seen.body)
                    replies = pushed if isinstance(pushed, list) else [pushed]
                    self.script(*[ScriptedReply.from_push(one) for one in replies])
                except (msgspec.MsgspecError, ValueError, LookupError, TypeError, AttributeError) as error:
                    return error_reply(400, f"Not a scripted reply: {error!r}")
                return ScriptedReply.of_json({"scripted": self.scripted})
        return error_reply(405, "GET or DELETE /_seen, POST /_script")


def _as_json(seen: Seen) -> dict[str, Any]:
    """A `Seen` for `/_seen`: bytes as text where they are UTF-8, else as base64 in `…_b64`."""
    shown = msgspec.structs.asdict(seen)
    for name in ("body", "raw"):
        data: bytes = shown.pop(name)
        try:
            shown[name] = data.decode()
        except UnicodeDecodeError:
            shown[f"{name}_b64"] = base64.b64encode(data).decode()
    return shown


async def serve(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    tls: SSLContext | None = None,
    started: Callable[[MockUpstream], None] | None = None,
) -> None:
    """Run a mock upstream until cancelled; `started` gets it once it listens, with its real port.

    Keeps the last 1,000 requests. Raises OSError where it cannot listen.
    """
    async with MockUpstream(host, port, tls=tls, max_seen=1000) as mock:
        if started:
            started(mock)
        await asyncio.Event().wait()
