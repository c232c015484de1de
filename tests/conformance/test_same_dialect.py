"""Every recorded exchange passes byte for byte where client and vendor speak one dialect.

On `/v1/{provider}/…` each exchange of each vendor that `test_recorded` leaves out, whatever it is about:
files, sound, frames of AWS, lines of JSON. On their faces, Responses and Messages.
"""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import pytest_asyncio
from yarl import URL

from raven_proxy.harness import ADMINISTRATOR, GatewayStarter, RunningGateway
from raven_proxy.mock import MockUpstream, ScriptedReply, Seen

from .cases import Case
from .recordings import MISSING, SURFACES, Recording, load_all, require
from .upstreams import PLUGINS, find_installed, require_plugin

pytestmark = pytest.mark.asyncio(loop_scope="module")

_VERSION = re.compile(r".*?/v\d+(?:beta)?(?=/)")
_PLUGINS = {  # vendor → plugin and preset; all others are rows of the plugin "openai"
    "anthropic": ("anthropic", "anthropic"),
    "bedrock": ("bedrock", "bedrock"),
    "cohere": ("cohere", "cohere"),
    "gemini": ("gemini", "gemini"),
    "vertex": ("gemini", "vertex"),
    "ollama": ("ollama", "ollama_native"),
}
_OPENAI = {"azure_openai": "openai", "parallel_corpus": "openai", "bedrock": "bedrock_mantle"}
_FACES = {"openai.responses": "/v1/responses", "anthropic.messages": "/v1/messages"}
_OWNED = {"file": "file", "batch": "batch", "resp": "response"}
_ID = re.compile(r"\b(file|batch|resp)[-_]\w+")
_QUESTIONS: dict[str, Any] = {  # where no request was recorded
    "openai.responses": {"model": "any-model", "input": "Hello?", "stream": True},
    "anthropic.messages": {
        "model": "any-model",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "Hello?"}],
        "stream": True,
    },
}


def _vendor(recording: Recording) -> tuple[str, str]:
    """Give plugin and preset."""
    provider = recording.provider
    if recording.surface.startswith("openai.") or provider not in _PLUGINS:
        return "openai", _OPENAI.get(provider, provider)
    return _PLUGINS[provider]


def _base_path(recording: Recording) -> str:
    found = _VERSION.match(urlsplit(recording.request["url"]).path)
    return found[0] if found else ""


def _request_body(recording: Recording) -> tuple[bytes, str]:
    request = recording.request
    kind = (request.get("headers") or {}).get("content-type") or "application/json"
    if request.get("body_b64") is not None:
        return base64.b64decode(request["body_b64"]), kind
    body = request.get("body")
    if request["method"] == "POST" and not isinstance(body, str):
        body = {"model": "any-model"} | (body or {}) if recording.surface in _FACES else body or {}
        body = body if len(body) > 1 else _QUESTIONS.get(recording.surface, body)
    if body is None:
        return b"", kind
    return (body.encode() if isinstance(body, str) else msgspec.json.encode(body)), kind


def _url(recording: Recording) -> tuple[str, str]:
    """Give path and query; a placeholder of the cassettes is made a word, credentials are left out."""
    parts = urlsplit(re.sub("<[A-Z_]+>", "global", recording.request["url"]))
    query = "&".join(one for one in parts.query.split("&") if one and not one.startswith("key="))
    return parts.path, f"?{query}" if query else ""


async def _own(gateway: RunningGateway, recording: Recording) -> None:
    """Let the key have made what the recorded request names: files, batches and responses have owners."""
    text = f"{recording.request['url']} {recording.request.get('body')}"
    for found in _ID.finditer(text):
        await gateway.gateway.storage.execute(
            "INSERT OR IGNORE INTO openai_objects VALUES (?, ?, ?, ?, ?, ?)",
            (_OWNED[found[1]], found[0], "vendor", ADMINISTRATOR.organization_id, 0, 0),
        )


def _parameters(*, faces: bool) -> list[Any]:
    found = [
        pytest.param(r, id=r.id)
        for r in load_all()
        if r.status < 300 and (r.surface in _FACES if faces else r.surface not in SURFACES)
        if not (faces and r.provider == "ollama")
    ]
    return found or [pytest.param(MISSING, id="none")]


def _same(got: bytes, expected: bytes) -> None:
    assert sha256(got).hexdigest() == sha256(expected).hexdigest(), (got[:400], expected[:400])


class Doors:
    """A gateway for each vendor and base URL, started when it is first asked for; one mock behind all."""

    def __init__(self, starter: GatewayStarter, upstream: MockUpstream) -> None:
        self.upstream = upstream
        self._starter = starter
        self._open: dict[tuple[str, str], RunningGateway] = {}

    async def enter(self, recording: Recording, reply: ScriptedReply) -> RunningGateway:
        """Give the vendor's gateway, behind which `reply` waits and nothing was seen."""
        plugin, preset = _vendor(recording)
        require_plugin(plugin)
        key = (preset, _base_path(recording))
        if key not in self._open:
            self._open[key] = await self._start(preset, key[1])
        await _own(self._open[key], recording)

        async def answer(_: Seen) -> ScriptedReply:
            return reply

        self.upstream.seen.clear()
        self.upstream.handler = answer
        return self._open[key]

    async def _start(self, preset: str, base_path: str) -> RunningGateway:
        key = "AWS_KEY" if preset == "bedrock" else "VENDOR_KEY"
        described: Any = {"name": "vendor", "provider": preset, "base_url": self.upstream.origin + base_path}
        described |= {"key": {"env": key}, "region": "us-east-1"}
        described |= {"options": {"project": "project-id"}} if preset == "vertex" else {}
        base = [name for name in PLUGINS if name in find_installed()]
        config = {"access_log": False}
        return await self._starter(base=base, upstreams=[described], config=config, check_leaks=False)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def doors(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Doors]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VENDOR_KEY", "sk-vendor-0123456789abcdef")
        patch.setenv("AWS_KEY", "AKIAABCDEFGHIJKLMNOP:secret-access-key")
        starter = GatewayStarter(tmp_path_factory.mktemp("doors"), patch)
        async with MockUpstream() as upstream:
            yield Doors(starter, upstream)
            await starter.stop()


@pytest.mark.parametrize("recording", _parameters(faces=False))
async def test_on_the_raw_path(recording: Recording | str, doors: Doors, record_property: Any) -> None:
    """PK: on /v1/{provider}/… path, query, request and reply pass byte for byte."""
    recording = require(recording)
    record_property("cell", ["same bytes", recording.provider, recording.kind])
    case = Case(recording)
    gateway = await doors.enter(recording, case.reply)
    _, preset = _vendor(recording)
    path, query = _url(recording)
    body, kind = _request_body(recording)
    url = URL(f"/v1/{preset}{path.removeprefix(_base_path(recording))}{query}", encoded=True)
    headers = {"Content-Type": kind}
    async with gateway.client.request(
        recording.request["method"], url, data=body or None, headers=headers
    ) as answer:
        reply = await answer.read()
    assert answer.status == recording.status, reply[:400]
    [seen] = doors.upstream.seen
    assert (seen.method, seen.target) == (recording.request["method"], path + query)
    _same(seen.body, body)
    _same(reply, case.body)
    sent = dict(case.reply.header_pairs)
    assert answer.headers.get("content-type") == sent.get("content-type")


@pytest.mark.parametrize("recording", _parameters(faces=True))
async def test_on_its_face(recording: Recording | str, doors: Doors, record_property: Any) -> None:
    """PK: on /v1/responses and /v1/messages request and reply pass byte for byte."""
    recording = require(recording)
    record_property("cell", ["same bytes", recording.provider, recording.kind])
    gateway = await doors.enter(recording, ScriptedReply.from_recording({"response": recording.response}))
    body, _ = _request_body(recording)
    headers = {"Content-Type": "application/json", "anthropic-version": "2023-06-01"}
    async with gateway.client.post(_FACES[recording.surface], data=body, headers=headers) as answer:
        reply = await answer.read()
    assert answer.status == recording.status, reply[:400]
    [seen] = doors.upstream.seen
    _same(seen.body, body)
    _same(reply, recording.body)
