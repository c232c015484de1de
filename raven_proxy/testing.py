"""A pytest plugin for plugin authors: a real gateway, a fake provider, and three assertions.

It is there wherever raven-proxy and pytest are installed; nothing has to be imported for

    async def test_it_refuses(raven, upstream):
        gateway = await raven([MyPlugin], upstreams=[upstream])
        async with gateway.client.post("/v1/chat/completions", json={"model": "mock/any", …}) as reply:
            assert reply.status == 403
        assert upstream.seen == []

Fixtures: `raven` starts gateways (`harness.GatewayStarter`), `upstream` is a running `MockUpstream`,
`exchange` makes exchanges for calling hooks directly. Functions: `run_stage`, `assert_fails_closed`.
Asynchronous tests need pytest-asyncio, best with `asyncio_mode = "auto"`.
"""

# pytest imports this module at the start of every run in an environment where raven-proxy is
# installed: before coverage measures, before a project's warning filters hold, and even if no test
# wants a gateway. So the gateway, its service and aiohttp come in where they are first needed.
from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import pytest

from .exchange import Candidate, Exchange, Outgoing, Principal, ReplyHead
from .faces import Call, Face, Stage

if TYPE_CHECKING:
    from .harness import GatewayStarter
    from .mock import MockUpstream

_async_fixture: Any
try:  # without pytest-asyncio the asynchronous fixtures cannot run, but other people's tests must
    from pytest_asyncio import fixture as _async_fixture
except ImportError:  # pragma: no cover
    _async_fixture = pytest.fixture

__all__ = ["ExchangeFactory", "assert_fails_closed", "run_stage"]


class ExchangeFactory(Protocol):
    """What the fixture `exchange` is."""

    def __call__(
        self,
        body: Mapping[str, Any] | bytes = b"{}",
        *,
        path: str = "/v1/chat/completions",
        headers: Mapping[str, str] = {},
        reply_headers: Mapping[str, str] = {},
        principal: Principal | None = None,
    ) -> Exchange:
        """Make an exchange in which all that a hook may read is filled in, up to the reply's headers."""


def run_stage(make_stage: Callable[[], Stage], data: bytes) -> bytes:
    """Run new stages over `data` whole, byte by byte, and cut in two at every place; give the result.

    Raises AssertionError where a cut makes a difference, and says which.
    """
    whole = _run(make_stage(), [data])
    if _run(make_stage(), [data[i : i + 1] for i in range(len(data))]) != whole:
        raise AssertionError("the stage gives something else when the bytes come one by one")
    for place in range(1, len(data)):
        if _run(make_stage(), [data[:place], data[place:]]) != whole:
            before, after = data[max(0, place - 20) : place], data[place : place + 20]
            raise AssertionError(
                f"the stage gives something else when cut at {place}: {before!r} | {after!r}"
            )
    return whole


async def assert_fails_closed(
    raven: GatewayStarter, upstream: MockUpstream, plugin: Any, *, timeout_s: float = 0.3, **options: Any
) -> int:
    """Send a chat through a plugin one of whose gates raises or hangs; give the status.

    Raises AssertionError unless the client is refused in plain words and the provider saw nothing. A
    gate hangs if it outlasts `timeout_s`. `options` are those of `raven`: with `config` a plugin gets its
    settings, `config={"plugin": {"my-gate": {"limit": 1}}}`.
    """
    from .harness import name_of

    config = dict(options.pop("config", {}))
    tables = config.get("plugin", {})
    name = name_of(plugin)
    config["plugin"] = {**tables, name: {"timeout_s": timeout_s, **tables.get(name, {})}}
    gateway = await raven([plugin], upstreams=[upstream], config=config, **options)
    seen = len(upstream.seen)
    question = {"model": "mock/any", "messages": [{"role": "user", "content": "May I pass?"}]}
    async with gateway.client.post("/v1/chat/completions", json=question) as reply:
        text = await reply.text()
    if len(upstream.seen) != seen:
        raise AssertionError(f"the provider saw the request: {upstream.seen[-1].target}")
    if reply.status < 400:
        raise AssertionError(f"the request was not refused: {reply.status} {text}")
    if "Traceback" in text:
        raise AssertionError(f"the client sees the inside: {text}")
    return int(reply.status)


@_async_fixture  # type: ignore[untyped-decorator]
async def raven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GatewayStarter]:
    """Start gateways; see `harness.GatewayStarter.__call__` for what can be asked for.

    They are stopped when the test ends, and it fails if a task, a thread, a connection or an exchange
    of theirs is left over.
    """
    from .harness import GatewayStarter

    starter = GatewayStarter(tmp_path, monkeypatch)
    yield starter
    await starter.stop()


@_async_fixture  # type: ignore[untyped-decorator]
async def upstream() -> AsyncIterator[MockUpstream]:
    """Run a fake provider on a real socket; see `raven_proxy.mock`."""
    from .mock import MockUpstream

    async with MockUpstream() as mock:
        yield mock


@pytest.fixture
def exchange() -> ExchangeFactory:
    """Make an `Exchange` to call a hook with: `await plugin.check_request(exchange({"model": "o3"}))`."""
    from .assembly import assemble
    from .config import Config
    from .harness import ADMINISTRATOR

    pipeline = assemble(Config(plugins=()), ())

    def make(
        body: Mapping[str, Any] | bytes = b"{}",
        *,
        path: str = "/v1/chat/completions",
        headers: Mapping[str, str] = {},
        reply_headers: Mapping[str, str] = {},
        principal: Principal | None = None,
    ) -> Exchange:
        from aiohttp.test_utils import make_mocked_request

        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        made = Exchange(make_mocked_request("POST", path, headers=dict(headers)), pipeline, "req_test")
        made.face = Face(name="test", path=path, endpoint=path.removeprefix("/v1/"), read_call=_read_call)
        made.headers = {name.lower(): value for name, value in headers.items()}
        made.client_address = "127.0.0.1"
        made.principal = principal or ADMINISTRATOR
        made.replace_body(content)
        made.candidate = _make_candidate(made.model)
        made.candidates = (made.candidate,)
        made.outgoing = Outgoing("POST", path, {}, content)
        kind = "text/event-stream" if made.stream else "application/json"
        made.head = ReplyHead(200, {"content-type": kind, **reply_headers})
        return made

    return make


def _make_candidate(model: str | None) -> Candidate:
    from .config import UpstreamConfig
    from .upstream import Upstream

    config = UpstreamConfig(name="test", provider="test", base_url="http://test.invalid/v1")
    provider: Any = SimpleNamespace(name="test")  # nothing is asked of it where nothing is sent
    return Candidate(Upstream(config, provider, allow_private=False), model)


class _Fields(msgspec.Struct):
    model: str | None = None
    stream: bool = False


def _read_call(body: bytes) -> Call:
    from .splice import scan

    members = scan(body)  # refuses what a real face would
    fields = msgspec.json.decode(body, type=_Fields)
    return Call(model=fields.model, stream=fields.stream, members=members)


def _run(stage: Stage, pieces: Sequence[bytes]) -> bytes:
    return b"".join([stage.feed(piece) for piece in pieces if piece]) + stage.close()
