"""T11, T12, T13: which headers pass in each direction, and where a client is."""

from __future__ import annotations

import re

import pytest

from raven_proxy import Exchange, Forbidden, hookimpl
from raven_proxy.mock import ScriptedReply

from .conftest import Case
from .wire import chat, post


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


async def test_t11_trailers_stay_here(case: Case) -> None:
    """What a provider sends behind a chunked body is no header of the reply."""
    await case.start()
    raw = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTrailer: X-Late\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Late: secret\r\nSet-Cookie: a=b\r\n\r\n"
    )
    case.upstream.script(ScriptedReply(framing="raw", chunks=[raw]))
    reply = await case.chat()
    assert reply.body == b"{}"
    assert not {"trailer", "x-late", "set-cookie"} & reply.headers.keys()
    assert (await case.chat()).status == 200


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
