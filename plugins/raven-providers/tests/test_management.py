"""`/providers`: what may be written, what is shown, and what never is."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from raven_proxy.mock import MockUpstream, ScriptedReply

from .conftest import CHAT, KEY, Api


async def test_an_account_is_shown_as_the_contract_says(api: Api) -> None:
    """Its key by its last four; what was read can be sent back, and nothing changes by it."""
    made = await api.make(region="eu", models=["gpt-*"], weight=3, priority=1)
    assert made["id"].startswith("prov_")
    assert {**made} | {
        "provider": "openai", "name": "Production OpenAI", "slug": "production-openai", "isEnabled": True,
        "apiKeyHint": "…cdef", "status": "active", "region": "eu", "models": ["gpt-*"], "weight": 3,
        "priority": 1, "baseUrl": None, "options": {},
    } == made  # fmt: skip
    assert "apiKey" not in made
    assert (await api("GET", "/providers"))[1] == [made]
    for method in ("PATCH", "PUT"):
        assert await api(method, f"/providers/{made['id']}", made) == (200, made)
    actions = [one["action"] for one in (await api("GET", "/audit-logs"))[1]]
    assert actions == ["providers.create"]
    assert await api("DELETE", f"/providers/{made['id']}") == (200, {"success": True})
    assert (await api("GET", f"/providers/{made['id']}"))[0] == 404


async def test_T57_another_organisation_s_account_is_not_there(api: Api, upstream: MockUpstream) -> None:
    """404 for every call, and nobody is asked; a viewer changes nothing."""
    made = await api.make(upstream)
    path = f"/providers/{made['id']}"
    for method, where in (("GET", path), ("PATCH", path), ("DELETE", path), ("POST", f"{path}/test")):
        assert (await api(method, where, {}, "bob"))[0] == 404
        assert (await api(method, where, {}, "vic"))[0] == (200 if method == "GET" else 403)
    assert (await api("GET", "/providers", who="bob"))[1] == []
    assert not upstream.seen


BAD = [
    ({"provider": "opneai"}, "provider"),
    ({"provider": "azure"}, "baseUrl"),
    ({"provider": "ollama"}, "baseUrl"),
    ({"name": ""}, "name"),
    ({"name": "chat"}, "name"),
    ({"name": "a\nb"}, "name"),
    ({"apiKey": "sk\r\nhost: x"}, "apiKey"),
    ({"apiKey": "   "}, "apiKey"),
    ({"apiKey": "rk_live_" + "x" * 32}, "apiKey"),
    ({"region": "e u"}, "region"),
    ({"models": [""]}, "models[0]"),
    ({"weight": -1}, "weight"),
    ({"priority": "high"}, "priority"),
    ({"options": {"api": "chat", "x": 1}}, "options"),
    ({"options": {"api": "soap"}}, "options"),
    ({"options": {"api": {"env": "HOME"}}}, "options[...]"),
    ({"caFile": "/etc/passwd"}, "caFile"),
    ({"max_connections": 1}, "max_connections"),
]


@pytest.mark.parametrize(("fields", "param"), BAD)
async def test_a_bad_field_is_named(start: Any, fields: dict[str, Any], param: str | None) -> None:
    """400 `validation_error` with `param`, nothing is stored, and a key is never repeated."""
    api = await start(allow_private_upstreams=False)
    body = {"provider": "openai", "name": "x", "apiKey": KEY} | fields
    status, answer = await api("POST", "/providers", body)
    error = answer["error"]
    assert (status, error["type"], error["param"]) == (400, "validation_error", param), error
    assert "sk" not in error["message"].replace("ask", "")
    assert (await api("GET", "/providers"))[1] == []


async def test_an_unknown_provider_comes_with_the_nearest(api: Api) -> None:
    _, answer = await api("POST", "/providers", {"provider": "opneai", "name": "x"})
    assert "did you mean 'openai'" in answer["error"]["message"]


PRIVATE = (
    "http://api.example.com", "https://127.0.0.1", "https://127.1", "https://2130706433", "https://0x7f000001",
    "https://localhost/v1", "https://LOCALHOST./v1", "https://10.0.0.1:8443",
    "https://192.168.1.1", "https://169.254.169.254/latest",
    "https://[::1]", "https://[::ffff:127.0.0.1]", "https://[fe80::1]", "https://[64:ff9b::7f00:1]",
    "https://0.0.0.0", "https://100.100.100.200", "https://168.63.129.16",
    "https://user@api.example.com", "https://user:pass@api.example.com", "https://api.example.com/#x",
    "https://api.example.com?x=1", "https://api.example.com\\@127.0.0.1", "https://api.example.com\t",
    "ftp://api.example.com", "file:///etc/passwd", "api.example.com", "https://", "https://a..b",
    "https://api.example.com:0", "https://api.example.com:99999", "https://[::1",
)  # fmt: skip


@pytest.mark.parametrize("url", PRIVATE)
async def test_T57_a_base_url_leads_to_a_public_https_address_only(start: Any, url: str) -> None:
    """Neither on create nor on change; IPv4 in other notations and inside IPv6 counts as itself."""
    api = await start(allow_private_upstreams=False)
    body = {"provider": "openai", "name": "x", "apiKey": KEY}
    status, answer = await api("POST", "/providers", body | {"baseUrl": url})
    assert (status, answer["error"]["param"]) == (400, "baseUrl"), answer
    _, made = await api("POST", "/providers", body)
    for method in ("PATCH", "PUT"):
        status, answer = await api(method, f"/providers/{made['id']}", body | {"baseUrl": url})
        assert (status, answer["error"]["param"]) == (400, "baseUrl"), answer


async def test_T57_a_name_that_resolves_to_a_private_address_is_refused(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where only one of its addresses is; a name that nobody knows today passes."""
    api = await start(allow_private_upstreams=False)
    known = {"inside.example.com": ["10.0.0.7"], "both.example.com": ["93.184.215.14", "::1"],
             "outside.example.com": ["93.184.215.14"]}  # fmt: skip

    async def resolve(host: str, port: int, **_: Any) -> list[Any]:
        if host not in known:
            raise socket.gaierror("unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in known[host]]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    for host, status in (("inside", 400), ("both", 400), ("outside", 201), ("nowhere", 201)):
        url = f"https://{host}.example.com/v1"
        body = {
            "provider": "openai",
            "name": host,
            "apiKey": KEY,
            "baseUrl": url,
        }
        assert (await api("POST", "/providers", body))[0] == status, host


async def test_T146_a_name_that_changes_its_mind_is_stopped_at_the_connection(
    start: Any, upstream: MockUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Public when it was saved, loopback when it is used: no request goes there, nor a test."""
    api = await start(allow_private_upstreams=False)
    port = int(upstream.url.rpartition(":")[2].partition("/")[0])
    answers = ["93.184.215.14"]

    async def resolve(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers[0], port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    made = await api.make(baseUrl=f"https://rebound.example.com:{port}/v1")
    answers[0] = "127.0.0.1"
    status, answer = await api.chat("production-openai/m")
    assert (status, answer["error"]["code"]) == (502, "upstream_error")
    status, tried = await api("POST", f"/providers/{made['id']}/test")
    assert (status, tried["success"], tried["status"]) == (200, False, None)
    assert "no public address" in tried["message"]
    assert upstream.connections_opened == 0


async def test_a_key_does_not_go_elsewhere_unless_it_is_given_again(
    api: Api, upstream: MockUpstream, other: MockUpstream
) -> None:
    """Who cannot read a key cannot send it to a host of theirs; another path on the same host is fine."""
    made = await api.make(upstream)
    path = f"/providers/{made['id']}"
    for fields in ({"baseUrl": other.url}, {"provider": "groq"}, {"baseUrl": None}):
        status, answer = await api("PATCH", path, fields)
        assert (status, answer["error"]["param"]) == (400, "apiKey")
    assert (await api("PATCH", path, {"baseUrl": f"{upstream.url}/other"}))[0] == 200
    assert (await api("PATCH", path, {"baseUrl": other.url, "apiKey": "sk-of-the-other-0123"}))[0] == 200
    assert (await api.chat("openai/m"))[0] == 200
    assert (len(upstream.seen), len(other.seen)) == (0, 1)
    assert other.seen[0].headers["authorization"] == "Bearer sk-of-the-other-0123"


async def test_a_name_is_taken_once(start: Any, upstream: MockUpstream) -> None:
    """By what requests would write for it; also by the config's upstreams and other providers' names."""
    api = await start(upstreams=[{"name": "main", "provider": "openai", "base_url": upstream.url}])
    first = await api.make(name="Zürich 1")
    assert first["slug"] == "zurich-1"
    for name in ("zurich 1", "ZURICH--1", "Main", "Groq", "main"):
        status, answer = await api("POST", "/providers", {"provider": "openai", "name": name})
        assert (status, answer["error"]["param"]) == (409, "name"), name
    assert (await api("PATCH", f"/providers/{first['id']}", {"name": "Zürich 1"}))[0] == 200
    assert (await api.make(who="bob", name="Zürich 1"))["slug"] == "zurich-1"
    assert (await api.make(name="OpenAI"))["slug"] == "openai"
    nameless = await api.make(name="東京")
    assert nameless["slug"] == nameless["id"]


async def test_T66_T147_a_key_is_in_no_answer_no_log_and_no_row(
    api: Api, upstream: MockUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """Through create, change, use, an error that repeats it, a test, rotation, export and delete."""
    new_key = "sk-proj-NEEDLE-second-fedcba9876"
    said: list[str] = []
    with capture_logs() as logs:
        made = await api.make(upstream)
        path = f"/providers/{made['id']}"
        echo = msgspec.json.encode({"error": {"message": f"Incorrect API key provided: {KEY}"}})
        upstream.script(
            ScriptedReply(status=401, body=echo),
            ScriptedReply(status=200, body=echo),
            ScriptedReply(status=401, body=echo),
        )
        for call in (
            ("GET", "/providers"), ("GET", path), ("PATCH", path, {"weight": 2}), ("PUT", path, made),
            ("POST", "/v1/chat/completions", CHAT | {"model": "openai/m"}),
            ("POST", "/v1/openai/chat/completions", {"model": "m", "messages": []}),
            ("POST", f"{path}/test"), ("PATCH", path, {"apiKey": new_key}), ("GET", "/audit-logs"),
            ("GET", "/openapi.json"),
        ):  # fmt: skip
            answer = await api(*call)
            said.append(repr(answer))
        headers = {"Authorization": "Bearer ann"}
        async with api.running.client.get("/audit-logs/export?format=csv", headers=headers) as reply:
            said.append(await reply.text())
        assert (await api("DELETE", path))[0] == 200
    rows = [
        await api.gateway.storage.fetch_all(f"SELECT * FROM {table}") for table in ("providers", "audit_log")
    ]
    for text in (*said, repr(logs), caplog.text, repr(rows), repr(made)):
        assert "NEEDLE" not in text


async def test_status_says_how_an_account_is(api: Api) -> None:
    made = await api.make()
    path = f"/providers/{made['id']}"
    for fields, status in (
        ({"isEnabled": False}, "disabled"), ({"apiKey": None}, "disabled"), ({"isEnabled": True}, "no_key"),
        ({"apiKey": KEY}, "active"),
    ):  # fmt: skip
        assert (await api("PATCH", path, fields))[1]["status"] == status


@pytest.mark.parametrize(
    ("provider", "options", "ok"),
    [
        ("vertex", {"project": "p", "location": "europe-west4"}, True),
        ("vertex", {"token_uri": "https://evil.example.com"}, False),
        ("bedrock", {"region": "eu-central-1"}, True),
        ("bedrock", {"access_key_id": "AKIA"}, False),
        ("bedrock", {"fetch_private": True}, False),
        ("azure", {"api_version": "2024-10-21", "auth": "bearer"}, True),
        ("anthropic", {"x": 1}, False),
    ],
)
async def test_options_that_name_a_secret_a_file_or_an_address_are_the_config_s(
    start: Any, provider: str, options: dict[str, Any], ok: bool
) -> None:
    for name in ("anthropic", "gemini", "bedrock"):
        pytest.importorskip(f"raven_{name}")
    api = await start(base=("anthropic", "gemini", "bedrock"))
    body = {"provider": provider, "name": "x", "apiKey": KEY, "options": options}
    status, answer = await api("POST", "/providers", body | {"baseUrl": "https://example.openai.azure.com"})
    assert status == (201 if ok else 400), answer
    if not ok:
        assert answer["error"]["param"] == "options"
