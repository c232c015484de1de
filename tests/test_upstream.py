"""An upstream: when a connection is used again, when it is not, and what may never reach a client."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from raven_proxy.collector import Collector
from raven_proxy.config import UpstreamConfig
from raven_proxy.connection import StaleConnection
from raven_proxy.errors import (
    ConfigError,
    InvalidRequest,
    Overloaded,
    UpstreamError,
    UpstreamTimeout,
    UpstreamTruncated,
)
from raven_proxy.exchange import Outgoing
from raven_proxy.mock import MockUpstream, ScriptedReply
from raven_proxy.upstream import Upstream

PROVIDER: Any = SimpleNamespace(base_url=lambda _preset: None)


@pytest.fixture
async def mock() -> AsyncIterator[MockUpstream]:
    async with MockUpstream() as running:
        yield running


def make(url: str, *, allow_private: bool = True, **fields: Any) -> Upstream:
    config = UpstreamConfig(name="up", provider="vendor", base_url=url, **fields)
    return Upstream(config, PROVIDER, allow_private=allow_private)


async def fetch(
    upstream: Upstream, method: str = "POST", body: bytes = b"{}", **options: Any
) -> tuple[int, bytes]:
    """Send one request and take its reply whole, as the gateway does."""
    options = {"fresh": False, "connect_s": 5.0, "first_byte_s": 5.0, "idle_s": 5.0} | options
    connection = await upstream.acquire(options["connect_s"], fresh=options["fresh"])
    head = upstream.write_request(Outgoing(method, f"{upstream.base_path}/x", {}, body))
    message = await connection.send(
        head, body, expects_body=method != "HEAD", timeout_s=options["first_byte_s"]
    )
    taken = connection.take()
    if taken is None:
        taken = await Collector(connection, 2**26, options["idle_s"], 60).wait()
    return message.code, taken


# -- reuse --------------------------------------------------------------------------


async def test_one_connection_serves_one_request_after_another(mock: MockUpstream) -> None:
    upstream = make(mock.url)
    for number in range(5):
        mock.reply(body=b"reply %d" % number)
        assert await fetch(upstream) == (200, b"reply %d" % number)
    assert mock.connections_opened == upstream.open_connections == 1
    upstream.close()


async def test_two_requests_at_once_take_two_connections_and_both_are_kept(mock: MockUpstream) -> None:
    upstream = make(mock.url)
    mock.script(*[ScriptedReply(body=b"x", delay_s=0.05) for _ in range(2)])
    await asyncio.gather(fetch(upstream), fetch(upstream))
    mock.script(*[ScriptedReply(body=b"x", delay_s=0.05) for _ in range(2)])
    await asyncio.gather(fetch(upstream), fetch(upstream))
    assert mock.connections_opened == upstream.open_connections == 2
    upstream.close()


async def test_the_newest_idle_connection_is_taken_and_old_ones_are_closed(
    mock: MockUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A burst leaves no connections behind that wait for the provider to tire of them."""
    upstream = make(mock.url)
    mock.script(*[ScriptedReply(body=b"x", delay_s=0.05) for _ in range(3)])
    await asyncio.gather(*[fetch(upstream) for _ in range(3)])
    assert upstream.open_connections == 3
    monkeypatch.setattr("raven_proxy.upstream.monotonic", lambda: time.monotonic() + 40)
    await fetch(upstream)
    assert upstream.open_connections == 3
    monkeypatch.setattr("raven_proxy.upstream.monotonic", lambda: time.monotonic() + 80)
    for left in (2, 1, 1):
        await fetch(upstream)
        await mock.wait_until(lambda left=left: mock.connections == left)  # type: ignore[misc]
        assert upstream.open_connections == left
    assert mock.connections_opened == 3
    upstream.close()
    await mock.wait_until(lambda: mock.connections == 0)


REUSED = {
    "chunked": ScriptedReply(chunks=[b"one", b"two"]),
    "an empty body": ScriptedReply(body=b""),
    "204": ScriptedReply(status=204),
    "304": ScriptedReply(status=304),
    "304 with a length": ScriptedReply(status=304, headers={"Content-Length": "10"}),
    "1xx before the reply": ScriptedReply(
        body=b"x", preface=b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    ),
    "an error": ScriptedReply(status=500, body=b"no"),
}
NOT_REUSED = {
    "Connection: close": ScriptedReply(body=b"x", end="close"),
    "a body that the close ends": ScriptedReply(body=b"x", framing="close"),
    "HTTP/1.0": ScriptedReply(framing="raw", chunks=[b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx"]),
}


@pytest.mark.parametrize("kind", REUSED)
async def test_a_reply_that_ends_by_itself_leaves_the_connection_usable(
    mock: MockUpstream, kind: str
) -> None:
    upstream, reply = make(mock.url), REUSED[kind]
    mock.script(reply, ScriptedReply(body=b"next"))
    assert await fetch(upstream) == (reply.status, reply.payload)
    assert await fetch(upstream) == (200, b"next")
    assert mock.connections_opened == 1
    upstream.close()


@pytest.mark.parametrize("kind", NOT_REUSED)
async def test_a_reply_that_ends_the_connection_ends_it(mock: MockUpstream, kind: str) -> None:
    upstream = make(mock.url)
    mock.script(NOT_REUSED[kind], ScriptedReply(body=b"next"))
    assert await fetch(upstream) == (200, b"x")
    assert await fetch(upstream) == (200, b"next")
    assert mock.connections_opened == 2
    upstream.close()


@pytest.mark.parametrize("length", ["0", "5"])
async def test_a_reply_to_head_has_no_body_whatever_it_declares(mock: MockUpstream, length: str) -> None:
    upstream = make(mock.url)
    mock.script(ScriptedReply(headers={"Content-Length": length}), ScriptedReply(body=b"next"))
    assert await fetch(upstream, "HEAD", b"") == (200, b"")
    assert await fetch(upstream) == (200, b"next")
    assert mock.connections_opened == 1
    upstream.close()


async def test_bytes_that_belong_to_no_reply_end_the_connection(mock: MockUpstream) -> None:
    upstream = make(mock.url)
    smuggled = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    mock.script(
        ScriptedReply(framing="raw", chunks=[b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx" + smuggled]),
        ScriptedReply(body=b"next"),
    )
    assert await fetch(upstream) == (200, b"x")
    assert await fetch(upstream) == (200, b"next")
    assert mock.connections_opened == 2
    mock.script(
        ScriptedReply(
            framing="raw", chunks=[b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 0.05, smuggled]
        ),
        ScriptedReply(body=b"next"),
    )
    assert await fetch(upstream) == (200, b"x")
    await asyncio.sleep(0.1)  # what comes late finds nobody
    assert await fetch(upstream) == (200, b"next")
    upstream.close()


async def test_an_idle_connection_that_the_provider_closed_is_not_used(mock: MockUpstream) -> None:
    for reset in (False, True):
        upstream = make(mock.url)
        await fetch(upstream)
        mock.drop_connections(reset=reset)
        await mock.wait_until(lambda: not mock.connections)
        await asyncio.sleep(0.02)
        assert upstream.open_connections == 0
        status, _ = await fetch(upstream)
        assert status < 500
        upstream.close()


async def test_a_kept_connection_closed_under_a_request_is_told_apart(mock: MockUpstream) -> None:
    upstream = make(mock.url)
    mock.script(ScriptedReply(body=b"x", end="stale"))
    await fetch(upstream)
    with pytest.raises(StaleConnection):
        await fetch(upstream)
    mock.reply(body=b"again")
    assert await fetch(upstream, fresh=True) == (200, b"again")
    mock.script(ScriptedReply(framing="raw", chunks=[], end="cut"))
    with pytest.raises(UpstreamTruncated):  # on a fresh connection it is the provider's failure
        await fetch(upstream, fresh=True)
    upstream.close()


async def test_after_close_nothing_is_kept(mock: MockUpstream) -> None:
    upstream = make(mock.url)
    mock.script(ScriptedReply(body=b"x", delay_s=0.05))
    task = asyncio.get_running_loop().create_task(fetch(upstream))
    await asyncio.sleep(0.02)
    upstream.close()
    assert await task == (200, b"x")
    await mock.wait_until(lambda: mock.connections == 0)
    assert upstream.open_connections == 0


# -- bodies -------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["content-length", "chunked", "close"])
@pytest.mark.parametrize("size", [0, 1, 65_536, 5_000_000])
async def test_a_body_arrives_whole_in_every_framing(mock: MockUpstream, framing: Any, size: int) -> None:
    upstream = make(mock.url)
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    mock.script(ScriptedReply(body=body, framing=framing))
    status, taken = await fetch(upstream)
    assert (status, taken == body) == (200, True)
    upstream.close()


@pytest.mark.parametrize(
    "reply",
    [
        ScriptedReply(body=b"half", content_length=100, end="cut"),
        ScriptedReply(body=b"half", content_length=100, end="reset"),
        ScriptedReply(chunks=[b"half"], end="cut"),
        ScriptedReply(chunks=[b"half", 0.02, b"more"], end="reset"),
        ScriptedReply(
            framing="raw",
            chunks=[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf"],
            end="cut",
        ),
        ScriptedReply(
            framing="raw",
            chunks=[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", 0.02, b"zz\r\n"],
            end="cut",
        ),
        ScriptedReply(framing="close", chunks=[b"half"], end="reset"),
    ],
)
async def test_a_body_that_breaks_off_is_an_error(mock: MockUpstream, reply: ScriptedReply) -> None:
    upstream = make(mock.url)
    mock.script(reply)
    with pytest.raises(UpstreamError):
        await fetch(upstream)
    await mock.wait_until(lambda: upstream.open_connections == 0)


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
    ],
)
async def test_what_is_no_reply_is_an_error(mock: MockUpstream, raw: bytes) -> None:
    upstream = make(mock.url)
    mock.script(ScriptedReply(framing="raw", chunks=[raw], end="cut"))
    with pytest.raises(UpstreamError):
        await fetch(upstream)
    await mock.wait_until(lambda: upstream.open_connections == 0)


async def test_a_large_request_arrives_as_it_is(mock: MockUpstream) -> None:
    upstream = make(mock.url)
    body = b'{"x":"' + b"y" * 3_000_000 + b'"}'
    await fetch(upstream, body=body)
    assert mock.seen[0].body == body
    assert mock.seen[0].headers["content-length"] == str(len(body))
    upstream.close()


# -- limits and leaving -------------------------------------------------------------


async def test_at_the_cap_the_answer_is_503_at_once_and_idle_ones_are_used(mock: MockUpstream) -> None:
    upstream = make(mock.url, max_connections=2)
    mock.script(*[ScriptedReply(body=b"x", delay_s=0.1) for _ in range(2)])
    tasks = [asyncio.get_running_loop().create_task(fetch(upstream)) for _ in range(2)]
    await asyncio.sleep(0.02)
    with pytest.raises(Overloaded) as refusal:
        await fetch(upstream)
    assert refusal.value.status == 503
    await asyncio.gather(*tasks)
    await fetch(upstream)
    assert mock.connections_opened == 2
    upstream.close()


async def test_who_leaves_while_waiting_closes_the_connection(mock: MockUpstream) -> None:
    upstream = make(mock.url)
    mock.script(ScriptedReply(body=b"x", delay_s=60))
    task = asyncio.get_running_loop().create_task(fetch(upstream))
    await mock.wait_until(lambda: mock.seen)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await mock.wait_until(lambda: mock.connections == 0)
    assert upstream.open_connections == 0


@pytest.mark.parametrize("turns", range(12))
async def test_who_leaves_while_connecting_is_counted_once(mock: MockUpstream, turns: int) -> None:
    upstream = make(mock.url)
    task = asyncio.get_running_loop().create_task(upstream.acquire(5.0))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        (await task).abort()
    await asyncio.sleep(0.02)
    assert upstream.open_connections == 0
    await mock.wait_until(lambda: mock.connections == 0)


async def test_a_provider_that_does_not_answer_in_time_is_a_504(mock: MockUpstream) -> None:
    upstream = make(mock.url)
    mock.script(ScriptedReply(delay_s=60))
    with pytest.raises(UpstreamTimeout):
        await fetch(upstream, first_byte_s=0.05)
    mock.script(ScriptedReply(chunks=[b"x"], end="hang"))
    with pytest.raises(UpstreamTimeout, match="silent"):
        await fetch(upstream, idle_s=0.05)
    await mock.wait_until(lambda: mock.connections == 0)
    assert upstream.open_connections == 0


async def test_a_port_where_nobody_listens_is_a_502(unused_tcp_port: int) -> None:
    upstream = make(f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(UpstreamError, match="up could not be reached"):
        await fetch(upstream)
    assert upstream.open_connections == 0


@pytest.mark.parametrize("host", ["raven-proxy.invalid", f"{'a' * 70}.invalid"], ids=["unknown", "too long"])
async def test_a_name_that_does_not_resolve_is_a_502(host: str) -> None:
    """The next provider is tried, also where a name is refused before anybody is asked for it."""
    with pytest.raises(UpstreamError, match="could not be reached"):
        await fetch(make(f"http://{host}"))


async def test_a_connection_that_is_not_accepted_in_time_is_a_504(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_args: Any, **_options: Any) -> Any:
        await asyncio.sleep(60)

    monkeypatch.setattr("aiohappyeyeballs.start_connection", never)
    upstream = make("http://127.0.0.1:9")
    with pytest.raises(UpstreamTimeout):
        await fetch(upstream, connect_s=0.05)
    assert upstream.open_connections == 0


async def test_a_private_address_is_refused_where_it_is_not_allowed(mock: MockUpstream) -> None:
    with pytest.raises(UpstreamError, match="no public address"):
        await fetch(make(mock.url, allow_private=False))
    with pytest.raises(UpstreamError, match="no public address"):
        await fetch(make(mock.url.replace("127.0.0.1", "localhost"), allow_private=False))
    assert mock.connections_opened == 0


# -- TLS ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A throw-away certificate authority, and a server's certificate for 127.0.0.1 and localhost."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make certificates with")
    folder = tmp_path_factory.mktemp("ca")

    def openssl(command: str) -> None:
        subprocess.run(["openssl", *command.split()], check=True, capture_output=True, cwd=folder)

    # Python 3.13 and newer insist on what RFC 5280 asks of certificates.
    authority = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=throw-away -keyout ca.key -out ca.pem"
    openssl(f"{authority} -addext keyUsage=critical,keyCertSign,cRLSign")
    openssl("req -newkey rsa:2048 -nodes -subj /CN=server -keyout server.key -out server.csr")
    (folder / "names").write_text(
        "subjectAltName=IP:127.0.0.1,DNS:localhost\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
    )
    sign = "x509 -req -in server.csr -out server.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2"
    openssl(f"{sign} -extfile names")
    return folder


@pytest.fixture
async def tls_mock(authority: Path) -> AsyncIterator[MockUpstream]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority / "server.pem", authority / "server.key")
    async with MockUpstream(tls=context) as running:
        yield running


async def test_tls_is_spoken_with_a_named_authority_and_connections_are_kept(
    tls_mock: MockUpstream, authority: Path
) -> None:
    upstream = make(tls_mock.url, ca_file=str(authority / "ca.pem"))
    for _ in range(3):
        tls_mock.script(ScriptedReply(chunks=[b"x" * 100_000, b"y" * 100_000]))
        assert await fetch(upstream) == (200, b"x" * 100_000 + b"y" * 100_000)
    assert tls_mock.connections_opened == 1
    upstream.close()
    await tls_mock.wait_until(lambda: tls_mock.connections == 0)
    assert upstream.open_connections == 0


async def test_a_certificate_of_an_unknown_authority_is_refused(tls_mock: MockUpstream) -> None:
    upstream = make(tls_mock.url)
    with capture_logs() as events, pytest.raises(UpstreamError, match="could not be reached"):
        await fetch(upstream)
    assert [(event["upstream"], "CERTIFICATE_VERIFY_FAILED" in event["reason"]) for event in events] == [
        ("up", True)
    ]
    await asyncio.sleep(0.02)
    assert upstream.open_connections == 0
    assert tls_mock.seen == []


async def test_a_certificate_for_another_name_is_refused(
    tls_mock: MockUpstream, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = make(tls_mock.url.replace("127.0.0.1", "other.test"), ca_file=str(authority / "ca.pem"))
    upstream.host = "127.0.0.1"
    loop = asyncio.get_running_loop()
    connect = loop.create_connection

    async def as_other(*args: Any, **options: Any) -> Any:
        return await connect(*args, **{**options, "server_hostname": "other.test"})

    monkeypatch.setattr(loop, "create_connection", as_other)
    with pytest.raises(UpstreamError, match="could not be reached"):
        await fetch(upstream)
    assert tls_mock.seen == []


async def test_tls_to_a_port_that_speaks_none_is_an_error() -> None:
    async def say_http(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(say_http, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(UpstreamError, match="could not be reached"):
            await fetch(make(f"https://127.0.0.1:{port}"))


# -- configuration ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"base_url": None}, "has no usual address; set base_url"),
        ({"base_url": "ftp://x"}, "is not an http(s) URL"),
        ({"base_url": "api.openai.com/v1"}, "is not an http(s) URL"),
        ({"base_url": "http://x:99999"}, "is not an http(s) URL"),
        ({"base_url": "http://[::1"}, "is not an http(s) URL"),
        ({"base_url": "https://x/v1?api-version=1"}, "may hold no user, query or fragment"),
        ({"base_url": "https://user:secret@x/v1"}, "may hold no user, query or fragment"),
        ({"base_url": "https://x", "ca_file": "/none.pem"}, "ca_file: No such file"),
    ],
)
def test_what_cannot_be_called_stops_the_start(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        Upstream(UpstreamConfig(name="up", provider="vendor", **fields), PROVIDER, allow_private=True)
    assert words in str(refusal.value)
    assert "'up'" in str(refusal.value)


def test_an_address_is_taken_apart_once() -> None:
    upstream = make("https://example.com:8443/openai/v1/")
    assert (upstream.host, upstream.port, upstream.base_path, upstream.authority) == (
        "example.com",
        8443,
        "/openai/v1",
        "example.com:8443",
    )
    assert (make("https://example.com").port, make("http://example.com").port) == (443, 80)


def test_a_requests_head_is_written_with_our_length_and_host() -> None:
    upstream = make("http://example.com/v1")
    head = upstream.write_request(Outgoing("POST", "/v1/x?y=1", {"a": "b"}, b"12345"))
    assert head.startswith(b"POST /v1/x?y=1 HTTP/1.1\r\nhost: example.com\r\na: b\r\n")
    assert b"content-length: 5\r\n" in head
    assert b"accept-encoding: identity\r\n" in head
    assert b"content-length" not in upstream.write_request(Outgoing("GET", "/v1/x", {}, b""))
    with pytest.raises(InvalidRequest):
        upstream.write_request(Outgoing("GET", "/v1/x", {"a": "b\r\nc: d"}, b""))
