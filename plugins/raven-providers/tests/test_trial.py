"""`POST /providers/{id}/test`: what it tells, and what it keeps to itself (T146)."""

from __future__ import annotations

from typing import Any

import pytest

from raven_proxy.mock import MockUpstream, ScriptedReply

from .conftest import KEY, Api

BODY = b'{"data": "what-the-vendor-said"}'


@pytest.mark.parametrize(
    ("reply", "success", "status", "word"),
    [
        (ScriptedReply(body=BODY), True, 200, "answered"),
        (ScriptedReply(status=401, body=BODY), False, 401, "refuses the key"),
        (ScriptedReply(status=403, body=BODY), False, 403, "refuses the key"),
        (ScriptedReply(status=404, body=BODY), False, 404, "no list of models"),
        (ScriptedReply(status=429, body=BODY), False, 429, "limits this key"),
        (ScriptedReply(status=500, body=BODY), False, 500, "an error"),
        (ScriptedReply(framing="raw", chunks=[b"HTTP/1.1 20"], end="reset"), False, None, ""),
        (ScriptedReply(framing="raw", chunks=[b"SSH-2.0-OpenSSH_9.6\r\n"]), False, None, ""),
    ],
)
async def test_T146_the_status_is_told_and_nothing_else_of_it(
    api: Api, upstream: MockUpstream, reply: ScriptedReply, success: bool, status: int | None, word: str
) -> None:
    made = await api.make(upstream)
    upstream.script(reply)
    got, answer = await api("POST", f"/providers/{made['id']}/test")
    assert got == 200
    assert set(answer) == {"success", "latencyMs", "status", "message"}
    assert (answer["success"], answer["status"]) == (success, status)
    assert word in answer["message"]
    for said in ("what-the-vendor-said", "OpenSSH", KEY):
        assert said not in repr(answer)
    [seen] = upstream.seen
    assert (seen.method, seen.target, seen.headers["authorization"]) == ("GET", "/v1/models", f"Bearer {KEY}")
    await upstream.wait_until(lambda: upstream.connections == 0)
    assert (await api("GET", "/audit-logs"))[1][0]["action"] == "providers.test"


async def test_T146_a_redirect_is_not_followed(api: Api, upstream: MockUpstream, other: MockUpstream) -> None:
    made = await api.make(upstream)
    upstream.script(ScriptedReply(status=302, headers={"Location": f"{other.url}/models"}))
    _, answer = await api("POST", f"/providers/{made['id']}/test")
    assert (answer["success"], answer["status"]) == (False, 302)
    assert other.connections_opened == 0


async def test_one_that_is_switched_off_can_be_tried(api: Api, upstream: MockUpstream) -> None:
    """Before it is switched on; one without a key is not called at all."""
    made = await api.make(upstream, isEnabled=False)
    assert (await api("POST", f"/providers/{made['id']}/test"))[1]["success"] is True
    await api("PATCH", f"/providers/{made['id']}", {"apiKey": None})
    _, answer = await api("POST", f"/providers/{made['id']}/test")
    assert (answer["success"], answer["message"]) == (False, "There is no key.")
    assert len(upstream.seen) == 1


async def test_a_vendor_without_such_a_call_is_connected_to(start: Any, upstream: MockUpstream) -> None:
    pytest.importorskip("raven_bedrock")
    api = await start(base=("bedrock",))
    made = await api.make(upstream, provider="bedrock")
    _, answer = await api("POST", f"/providers/{made['id']}/test")
    assert (answer["success"], answer["status"]) == (True, None)
    assert "no call that would show" in answer["message"]
    assert (upstream.connections_opened, len(upstream.seen)) == (1, 0)


async def test_nobody_there_is_said_in_our_words(api: Api, upstream: MockUpstream) -> None:
    made = await api.make(upstream)
    await upstream.close()
    _, answer = await api("POST", f"/providers/{made['id']}/test")
    assert (answer["success"], answer["status"]) == (False, None)
    assert answer["message"] == "The upstream production-openai could not be reached."


async def test_T146_one_that_does_not_answer_is_not_waited_for(
    api: Api, upstream: MockUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raven_providers.trial._TIMEOUT_S", 0.2)
    made = await api.make(upstream)
    upstream.script(ScriptedReply(delay_s=30))
    _, answer = await api("POST", f"/providers/{made['id']}/test")
    assert (answer["success"], answer["status"]) == (False, None)
    assert "did not answer" in answer["message"]


async def test_azure_is_asked_with_its_own_header_and_path(api: Api, upstream: MockUpstream) -> None:
    url = upstream.url.removesuffix("/v1")
    made = await api.make(upstream, provider="azure", baseUrl=url)
    upstream.script(ScriptedReply(body=BODY), ScriptedReply(body=BODY))
    assert (await api("POST", f"/providers/{made['id']}/test"))[1]["success"] is True
    await api("PATCH", f"/providers/{made['id']}", {"options": {"api_version": "2024-10-21"}})
    await api("POST", f"/providers/{made['id']}/test")
    assert [seen.target for seen in upstream.seen] == [
        "/openai/v1/models", "/openai/models?api-version=2024-10-21",
    ]  # fmt: skip
    assert {seen.headers["api-key"] for seen in upstream.seen} == {KEY}
