"""T3, T8, T11, T12, T13, T17, T19: what two readers of one connection could understand differently."""

from __future__ import annotations

import re
from typing import Any

import pytest

from raven_proxy import Exchange, Forbidden, Refused, hookimpl
from raven_proxy.harness import ADMIN_KEY
from raven_proxy.mock import MockUpstream, ScriptedReply

from .conftest import Case
from .wire import CHAT, Wire, chat, post

CHUNKED = f"POST {CHAT} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
JSON = "Content-Type: application/json\r\n"


async def closed_after(wire: Wire) -> bool:
    return await wire.rest() == b""


@pytest.mark.parametrize(
    ("coding", "status"),
    [
        ("gzip, chunked", 501),
        ("chunked, gzip", 400),
        ("identity", 400),
        ("xchunked", 400),
        ("chunked, chunked", 400),
        ("gzip", 400),
    ],
)
async def test_t3_only_the_plain_chunked_coding_is_understood(case: Case, coding: str, status: int) -> None:
    """A transfer coding that we do not undo is refused, and nothing goes upstream."""
    await case.start()
    async with await case.wire() as wire:
        body = "5\r\nhello\r\n0\r\n\r\n"
        await wire.send(f"{CHUNKED}{JSON}Transfer-Encoding: {coding}\r\n\r\n{body}".encode())
        reply = await wire.reply()
    assert reply.status in {status, 400, 501}
    case.refused(reply, reply.status)
    assert case.upstream.seen == []


async def test_t3_http_1_0_has_no_transfer_encoding(case: Case) -> None:
    """HTTP/1.0 with Transfer-Encoding is a 400 and the connection is closed."""
    await case.start()
    async with await case.wire() as wire:
        head = CHUNKED.replace("HTTP/1.1", "HTTP/1.0")
        await wire.send(f"{head}{JSON}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n".encode())
        case.refused(await wire.reply(), 400)
        assert await closed_after(wire)
    assert case.upstream.seen == []


@pytest.mark.parametrize(
    "line",
    [
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Content-Length: 2\r\nContent-Length: 2",
        "Content-Length: 2, 2",
        "Content-Length: +2",
        "Content-Length: 99999999999999999999",
        "Content-Length : 2",
        "X-A: b\r\n folded",
        "X-A: b\x00c",
        "X-A: b\rc",
        "Host: second",
    ],
)
async def test_t3_ambiguous_heads_are_refused_and_closed(case: Case, line: str) -> None:
    """A head that HTTP readers disagree about is a 400 in the envelope, and the connection ends."""
    await case.start()
    async with await case.wire() as wire:
        await wire.send(f"{CHUNKED}{JSON}{line}\r\n\r\n{{}}".encode())
        case.refused(await wire.reply(), 400)
        assert await closed_after(wire)
    assert case.upstream.seen == []


@pytest.mark.parametrize("version", ["HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/3", "http/1.1"])
async def test_t3_other_versions_are_not_answered_as_1_1(case: Case, version: str) -> None:
    """A version that is not spoken here is refused, whatever follows it."""
    await case.start()
    async with await case.wire() as wire:
        await wire.send(post(chat()).replace(b"HTTP/1.1", version.encode()))
        reply = await wire.reply()
    assert reply.status in {400, 505}
    case.refused(reply, reply.status)
    assert case.upstream.seen == []


async def test_t3_an_upgrade_is_declined_and_the_request_is_served_as_it_is(case: Case) -> None:
    """`Upgrade` changes nothing: the body is judged, the reply is HTTP/1.1, the connection goes on."""
    await case.start()
    async with await case.wire() as wire:
        for upgrade in ("h2c", "websocket"):
            await wire.send(post(chat(), headers=("Connection: Upgrade", f"Upgrade: {upgrade}")))
            reply = await wire.reply()
            assert reply.status in {200, 400}, reply
        await wire.send(post(chat()))
        assert (await wire.reply()).status == 200
    assert all("upgrade" not in seen.headers for seen in case.upstream.seen)


class Blocking:
    """Stands for a guardrail: blocks whoever says so."""

    @hookimpl
    async def check_request(self, exchange: Exchange) -> None:
        if exchange.model == "mock/blocked":
            raise Refused("No.", status=403, code="guardrail_blocked")
        if exchange.model == "mock/broken":
            raise RuntimeError("broken")


SMUGGLED = b"GET /keys HTTP/1.1\r\nHost: a\r\n\r\n" + b"x" * 9


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (post(SMUGGLED, key="rk_live_wrong"), 401),
        (post(SMUGGLED, "/nothing/here"), 404),
        (post(SMUGGLED, kind="text/plain"), 400),
        (post(SMUGGLED), 400),
        (post(SMUGGLED, method="PUT"), 405),
        (post(chat("mock/blocked")), 403),
        (post(chat("mock/broken")), 500),
        (post(SMUGGLED, "/v1//chat"), 400),
    ],
)
async def test_t8_a_refused_body_is_never_read_as_a_request(case: Case, first: bytes, status: int) -> None:
    """A refused request and a good one on the same connection get exactly two answers."""
    case.may_fail = status == 500
    await case.start(Blocking())
    async with await case.wire() as wire:
        await wire.send(first)
        assert (await wire.reply()).status == status
        await wire.send(post(chat(), headers=("Connection: close",)))
        assert (await wire.reply()).status == 200
        assert await closed_after(wire)
    assert [seen.path for seen in case.upstream.seen] == [CHAT]


async def test_t8_both_in_one_packet(case: Case) -> None:
    """The same when the refused request and the good one come in one read."""
    await case.start()
    async with await case.wire() as wire:
        await wire.send(post(SMUGGLED, key="rk_live_wrong") + post(chat(), headers=("Connection: close",)))
        assert [(await wire.reply()).status for _ in range(2)] == [401, 200]
        assert await closed_after(wire)
    assert len(case.upstream.seen) == 1


async def test_t8_after_413_the_connection_is_closed(case: Case) -> None:
    """Nobody knows how much of a refused large body is to come: the connection ends with the 413."""
    await case.start(config={"max_body_bytes": 100})
    for body in (b"x" * 101, b" " * 200_000):
        async with await case.wire() as wire:
            await wire.send(post(body))
            case.refused(await wire.reply(), 413, code="payload_too_large")
            await wire.send(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
            assert await closed_after(wire)
    async with await case.wire() as wire:
        head = f"{CHUNKED}{JSON}Transfer-Encoding: chunked\r\n\r\n"
        await wire.send(head.encode() + b"80\r\n" + b"x" * 128 + b"\r\n")
        case.refused(await wire.reply(), 413, code="payload_too_large")
    assert case.upstream.seen == []


async def test_t8_pipelined_requests_are_answered_in_order(case: Case) -> None:
    """Ten requests in one packet get ten answers, in their order."""
    await case.start()
    async with await case.wire() as wire:
        await wire.send(b"".join(post(chat(f"mock/m{number}")) for number in range(10)))
        models = [(await wire.reply()).json()["model"] for _ in range(10)]
    assert models == [f"m{number}" for number in range(10)]


# -- headers ------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_t11_only_listed_reply_headers_reach_the_client(case: Case, stream: bool) -> None:
    """Hop-by-hop fields, cookies, banners and echoed credentials of a provider stay here."""
    await case.start()
    reply = await case.chat("mock/fx-hop-headers", stream=stream)
    assert reply.status == 200
    banned = "connection x-foo keep-alive proxy-authenticate alt-svc set-cookie server authorization"
    assert not {*banned.split(), "x-goog-api-key"} & reply.headers.keys()
    assert "upstream-secret" not in str(reply.headers)
    case.find_needles(str(reply.headers).encode(), "the reply's head")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["fx-bad-header", "fx-big-header"])
async def test_t11_a_broken_reply_head_is_a_502(case: Case, model: str, stream: bool) -> None:
    """A control character or 20 KB in a provider's header is the provider's fault, and a 502."""
    await case.start()
    case.refused(await case.chat(f"mock/{model}", stream=stream), 502, code="upstream_error")
    assert len(case.upstream.seen) == 1
    assert (await case.chat()).status == 200


async def test_t11_unknown_reply_headers_are_dropped(case: Case) -> None:
    """The filter is a list of what may pass: a name that nobody thought of does not."""
    await case.start()
    case.upstream.reply(
        json={"choices": []},
        headers={"X-Never-Heard-Of": "1", "OpenAI-Version": "2020-10-01", "openai-api-key": "sk-x"},
    )
    headers = (await case.chat()).headers
    assert headers["openai-version"] == "2020-10-01"
    assert not {"x-never-heard-of", "openai-api-key"} & headers.keys()


async def test_t12_own_headers_of_a_client_are_overwritten(case: Case) -> None:
    """A client cannot speak for the gateway: its X-Raven-… are dropped, and ours are there once."""
    await case.start()
    theirs = (
        "X-Raven-Provider: evil",
        "X-Raven-Model: evil",
        "x_raven_model: evil",
        "X-Request-ID: theirs-123",
        "X-Org-Id: org_theirs",
        "x_org_id: org_theirs",
        "X-User: root",
        "Forwarded: for=1.2.3.4",
        "X-Forwarded-For: 1.2.3.4",
        "X-Real-IP: 1.2.3.4",
        "Cookie: session=abc",
        "Proxy-Authorization: Basic eDp5",
        "X-Vendor-Own: survives",
    )
    reply = await case.ask(post(chat(), headers=theirs))
    assert reply.headers["x-raven-provider"] == "mock"
    assert re.fullmatch(r"req_[0-9a-f]{24}", reply.headers["x-request-id"])
    sent = case.upstream.seen[0].headers
    assert sent["x-vendor-own"] == "survives"
    words = {line.partition(":")[0].lower() for line in theirs[:-1]}
    assert not words & sent.keys()
    assert sent["authorization"] == "Bearer sk-upstream-test"
    assert (await case.last()).client_address == "127.0.0.1"


class Ids:
    """Keeps the client's own request id."""

    def __init__(self) -> None:
        self.theirs: list[str | None] = []

    @hookimpl
    async def check_request(self, exchange: Exchange) -> None:
        self.theirs.append(exchange.headers.get("x-request-id"))


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("trace_1-A", "trace_1-A"),
        ("x" * 64, "x" * 64),
        ("x" * 65, None),
        ("x" * 4096, None),
        ("a b", None),
        ("a\tb", None),
        ("é", None),
        ("\udce9", None),
        ("a;b", None),
    ],
)
async def test_t12_a_request_id_of_theirs_is_kept_apart_and_only_if_harmless(
    case: Case, value: str, kept: str | None
) -> None:
    """The request id is ours; theirs is a field of its own, if it is `[A-Za-z0-9_-]{1,64}`."""
    ids = Ids()
    await case.start(ids)
    reply = await case.ask(post(chat(), headers=(f"X-Request-ID: {value}",)))
    assert reply.status == 200
    assert reply.headers["x-request-id"].startswith("req_")
    assert ids.theirs == [kept]


async def test_t12_a_field_that_must_be_single_is_refused_when_doubled(case: Case) -> None:
    """Two X-Org-Id are a 400, not the first or the last of them."""
    await case.start()
    reply = await case.ask(post(chat(), headers=("X-Org-Id: org_a", "X-Org-Id: org_b")))
    case.refused(reply, 400, param="x-org-id")
    assert case.upstream.seen == []


class Allowlist:
    """Stands for an IP allowlist."""

    def __init__(self, *allowed: str) -> None:
        self.allowed = allowed

    @hookimpl
    async def check_request(self, exchange: Exchange) -> None:
        if exchange.client_address not in self.allowed:
            raise Forbidden("Not from there.", code="ip_not_allowed")


async def test_t13_a_direct_client_cannot_choose_its_address(case: Case) -> None:
    """X-Forwarded-For of a peer that is no trusted proxy is ignored."""
    await case.start(Allowlist("203.0.113.7"), config={"trusted_proxies": ["10.0.0.0/8"]})
    reply = await case.ask(post(chat(), headers=("X-Forwarded-For: 203.0.113.7",)))
    case.refused(reply, 403, code="ip_not_allowed")
    assert case.upstream.seen == []
    assert (await case.last()).client_address == "127.0.0.1"


@pytest.mark.parametrize(
    ("lines", "address"),
    [
        (["203.0.113.7"], "203.0.113.7"),
        (["6.6.6.6, 203.0.113.7"], "203.0.113.7"),
        (["6.6.6.6, 203.0.113.7, 10.1.2.3"], "203.0.113.7"),
        (["6.6.6.6", "203.0.113.7"], "203.0.113.7"),
        (["203.0.113.7", "10.1.2.3"], "203.0.113.7"),
        (["2001:db8::7"], "2001:db8::7"),
        (["[2001:db8::7]:4711"], "2001:db8::7"),
        (["203.0.113.7:4711"], "203.0.113.7"),
        (["::ffff:203.0.113.7"], "203.0.113.7"),
        (["192.168.0.9"], "192.168.0.9"),  # private, but not configured: a client like any other
        (["garbage"], "127.0.0.1"),
        (["203.0.113.7, garbage"], "127.0.0.1"),
        (["203.0.113.7, garbage, 10.1.2.3"], "10.1.2.3"),
        ([""], "127.0.0.1"),
        ([", ".join(["6.6.6.6"] * 200 + ["203.0.113.7"])], "203.0.113.7"),
        ([", ".join(["6.6.6.6"] * 3 + ["10.0.0.1"] * 200)], "10.0.0.1"),
    ],
)
async def test_t13_behind_trusted_proxies_the_rightmost_untrusted_hop_counts(
    case: Case, lines: list[str], address: str
) -> None:
    """The walk goes from the right over configured proxies alone; garbage stops it."""
    await case.start(config={"trusted_proxies": ["127.0.0.1/32", "10.0.0.0/8"]})
    reply = await case.ask(post(chat(), headers=tuple(f"X-Forwarded-For: {line}" for line in lines)))
    assert reply.status == 200
    assert (await case.last()).client_address == address


# -- paths --------------------------------------------------------------------------------

REFUSED_PATHS = """
    //v1/../keys /v1/%2e%2e/keys /v1/chat%2fcompletions /v1/chat;x/completions /V1/chat/completions
    /v1/chat/completions/ http://evil/keys http://evil/v1/chat/completions /v1/./chat/completions
    /v1/chat/completions%00 /v1/mock/../chat/completions /v1/mock/%2E%2E/keys /v1//chat/completions
    /v1/chat\\completions /v1/chat%5ccompletions /v1/mock//chat/completions /v1/mock/a%252fb
    /v1/chat/completions/.. * /v1/mock/.. /v1/chat/completions# /v1/mock/..%2fkeys
    /v1/chat/completions%0d%0aX:y /v1/models/..%2f..%2fkeys
""".split()


@pytest.mark.parametrize("path", REFUSED_PATHS)
async def test_t17_ambiguous_paths_are_refused(case: Case, path: str) -> None:
    """A path that two readers could resolve differently is refused, not normalised."""
    await case.start()
    reply = await case.ask(post(chat(), path))
    assert reply.status in {400, 404, 405}, reply
    case.refused(reply, reply.status)
    assert case.upstream.seen == []


@pytest.mark.parametrize("host", ["a?/health/live", "a/health/live#", "gateway@evil", "[::1", "a b", ""])
async def test_t17_the_host_does_not_choose_the_path(case: Case, host: str) -> None:
    """Whatever Host says, the path that authentication judged is the path that runs."""
    await case.start()
    raw = post(chat(), key=None).replace(b"Host: gateway", f"Host: {host}".encode())
    reply = await case.ask(raw)
    assert reply.status in {400, 401}, reply
    case.refused(reply, reply.status)
    assert case.upstream.seen == []


@pytest.mark.parametrize(
    "path", ["/v1/mock/chat/completions", "/api/v1/mock/chat/completions/", f"/api{CHAT}"]
)
async def test_t17_spellings_that_are_served_take_the_same_key(case: Case, path: str) -> None:
    """An alias of a route is served with a key, and is a 401 without."""
    await case.start()
    case.refused(await case.ask(post(chat(), path, key=None)), 401)
    assert case.upstream.seen == []
    assert (await case.ask(post(chat(), path))).status in {200, 404}


# -- redirects ----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_t19_a_redirect_is_not_followed(case: Case, status: int, stream: bool) -> None:
    """A provider that redirects is a 502, and the place it names sees nothing."""
    async with MockUpstream() as elsewhere:
        await case.start()
        model = f"mock/fx-redirect-{status}-{elsewhere.origin}/x"
        reply = await case.chat(model, stream=stream)
        inner = case.refused(reply, 502, code="upstream_error")
        assert elsewhere.origin not in str(inner)
        assert elsewhere.connections_opened == 0
        assert elsewhere.seen == []
    assert len(case.upstream.seen) == 1
    assert "location" not in reply.headers


async def test_t19_neither_is_one_on_the_raw_path(case: Case) -> None:
    """The same on `/v1/{provider}/{endpoint}`."""
    async with MockUpstream() as elsewhere:
        await case.start()
        fields: dict[str, Any] = {"headers": [("Location", elsewhere.url)]}
        case.upstream.script(ScriptedReply(status=303, **fields))
        case.refused(await case.ask(post({"a": 1}, "/v1/mock/responses")), 502, code="upstream_error")
        assert elsewhere.connections_opened == 0
