"""Azure's own URLs, key header and errors; all else is as with any vendor of OpenAI's API."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI, NotFoundError
from raven_openai.azure import AzureProvider

from raven_proxy.errors import ConfigError
from raven_proxy.harness import ADMIN_KEY, GatewayStarter, RunningGateway
from raven_proxy.mock import MockUpstream, ScriptedReply

CHAT = {"model": "az/gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
DATED = {"api_version": "2024-10-21"}


@pytest.fixture
def azure(raven: GatewayStarter, upstream: MockUpstream, tmp_path: Path) -> Callable[..., Any]:
    """Start a gateway whose upstream "az" is an Azure resource at `path` of the mock."""
    key = tmp_path / "key"
    key.write_text("azure-secret-0123456789")

    async def start(path: str = "", **options: Any) -> RunningGateway:
        table = {"name": "az", "provider": "azure", "base_url": upstream.origin + path, "options": options}
        return await raven([], upstreams=[table | {"key": {"file": str(key)}}])

    return start


@pytest.mark.parametrize(
    ("path", "options", "target"),
    [
        ("", {}, "/openai/v1/chat/completions"),
        ("/openai", {}, "/openai/v1/chat/completions"),
        ("/openai/v1", {}, "/openai/v1/chat/completions"),
        ("", {"api_version": "preview"}, "/openai/v1/chat/completions?api-version=preview"),
        ("/openai/v1", {"api_version": "v1"}, "/openai/v1/chat/completions"),
        ("", DATED, "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"),
        ("/openai", DATED, "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"),
        ("/models", {}, "/models/chat/completions?api-version=2024-05-01-preview"),
        ("/models", DATED, "/models/chat/completions?api-version=2024-10-21"),
    ],
)
async def test_a_chat_goes_to_the_url_of_the_surface(
    azure: Callable[..., Any], upstream: MockUpstream, path: str, options: dict[str, str], target: str
) -> None:
    gateway = await azure(path, **options)
    upstream.reply(json={"choices": [{"finish_reason": "stop"}], "usage": {}})
    async with gateway.client.post("/v1/chat/completions", json=CHAT) as answer:
        assert answer.status == 200
    seen = upstream.seen[0]
    assert seen.target == target
    assert seen.headers["api-key"] == "azure-secret-0123456789"
    assert "authorization" not in seen.headers
    assert seen.json["model"] == "gpt-4o"


async def test_an_entra_token_goes_as_a_bearer(azure: Callable[..., Any], upstream: MockUpstream) -> None:
    gateway = await azure(auth="bearer")
    upstream.reply(json={"choices": []})
    async with gateway.client.post("/v1/chat/completions", json=CHAT) as answer:
        assert answer.status == 200
    assert upstream.seen[0].headers["authorization"] == "Bearer azure-secret-0123456789"
    assert "api-key" not in upstream.seen[0].headers


@pytest.mark.parametrize(
    ("options", "param"),
    [({"version": "x"}, "version"), ({"api_version": "a&b"}, "api_version"), ({"auth": "none"}, "auth")],
)
async def test_wrong_options_are_an_error_at_start(
    azure: Callable[..., Any], options: dict[str, str], param: str
) -> None:
    with pytest.raises(ConfigError, match=param):
        await azure(**options)


async def test_an_azure_upstream_needs_its_address(raven: GatewayStarter) -> None:
    with pytest.raises(ConfigError, match="base_url"):
        await raven([], upstreams=[{"name": "az", "provider": "azure"}])


@pytest.mark.parametrize("streamed", [True, False])
async def test_recordings_pass_byte_for_byte_on_both_kinds_of_path(
    azure: Callable[..., Any],
    upstream: MockUpstream,
    recorded: Callable[[str], list[dict[str, Any]]],
    streamed: bool,
) -> None:
    gateway = await azure(**DATED)
    for recording in recorded("azure_openai/*"):
        request, response = recording["request"], recording["response"]
        url = request["url"].replace(".com//", ".com/")
        path = url.partition(".com/")[2]
        endpoint = path.partition("?")[0].removeprefix("openai/").removeprefix("v1/")
        if recording["streaming"] is not streamed or not request["body"] or "services.ai" in url:
            continue
        model = path.split("/")[2] if "/deployments/" in path else request["body"]["model"]
        raw = msgspec.json.encode(request["body"])
        body = {**request["body"], "model": f"az/{model}"}
        usual = "/v1/" + endpoint.removeprefix(f"deployments/{model}/")
        for sent, to in ((raw, f"/v1/az/{path}"), (msgspec.json.encode(body), usual)):
            upstream.script(ScriptedReply.from_recording(recording))
            headers = {"Content-Type": "application/json"}
            async with gateway.client.post(to, data=sent, headers=headers) as answer:
                assert answer.status == response["status"]
                assert await answer.text() == response["body"]
        assert upstream.seen[-2].target == f"/{path}"
        assert upstream.seen[-2].body == raw
        assert upstream.seen[-1].path.startswith("/openai/")


async def test_the_first_chunk_with_filter_results_does_not_trouble_the_client(
    azure: Callable[..., Any], upstream: MockUpstream, recorded: Callable[[str], list[dict[str, Any]]]
) -> None:
    gateway = await azure(**DATED)
    for recording in recorded("azure_openai/chat-*stream*"):
        upstream.script(ScriptedReply.from_recording(recording))
        async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=ADMIN_KEY) as openai:
            stream = await openai.chat.completions.create(
                model="az/gpt-4o-mini",
                messages=[{"role": "user", "content": "x"}],
                stream=True,
                stream_options={"include_usage": True},
            )
            chunks = [chunk async for chunk in stream]
        assert chunks[0].choices == []
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.total_tokens == 308


@pytest.mark.parametrize(
    ("recorded_headers", "wait"),
    [
        ({"retry-after": "1", "retry-after-ms": "0"}, "1"),
        ({"retry-after-ms": "1500"}, "2"),
        ({"retry-after-ms": "x"}, "1"),
        ({}, "1"),
    ],
)
async def test_a_rate_limit_says_how_long_to_wait(
    azure: Callable[..., Any],
    upstream: MockUpstream,
    recorded: Callable[[str], list[dict[str, Any]]],
    recorded_headers: dict[str, str],
    wait: str,
) -> None:
    gateway = await azure("/models")
    for recording in recorded("azure_openai/chat-error-429*"):
        upstream.script(
            ScriptedReply.from_recording(
                recording, headers={"Content-Type": "application/json", **recorded_headers}
            )
        )
        async with gateway.client.post("/v1/chat/completions", json=CHAT) as answer:
            error = (await answer.json())["error"]
            assert (answer.status, answer.headers["Retry-After"]) == (429, wait)
        assert error["code"] == "RateLimitReached"
        assert error["message"].startswith("Your requests to grok-4-1-fast")


@pytest.mark.parametrize(
    ("status", "theirs", "ours"),
    [
        (404, {"code": "404", "message": "Resource not found"}, {"code": "not_found", "status": 404}),
        (
            404,
            {"code": "DeploymentNotFound", "message": "The API deployment does not exist."},
            {"code": "DeploymentNotFound", "param": "model", "status": 404},
        ),
        (
            400,
            {
                "code": "content_filter",
                "message": "The response was filtered",
                "param": "prompt",
                "type": None,
                "status": 400,
                "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {}},
            },
            {"code": "content_filter", "param": "prompt", "status": 400, "type": "invalid_request_error"},
        ),
        (401, {"code": "401", "message": "Access denied due to invalid key."}, {"status": 502}),
    ],
)
async def test_errors_keep_their_meaning(
    azure: Callable[..., Any],
    upstream: MockUpstream,
    status: int,
    theirs: dict[str, Any],
    ours: dict[str, Any],
) -> None:
    gateway = await azure(**DATED)
    upstream.reply(json={"error": theirs}, status=status)
    async with gateway.client.post("/v1/chat/completions", json=CHAT) as answer:
        error = (await answer.json())["error"]
    assert error.items() >= ours.items()
    assert theirs["message"] in error["message"]


async def test_the_official_azure_client_works_on_the_raw_path(
    azure: Callable[..., Any], upstream: MockUpstream
) -> None:
    gateway = await azure(**DATED)
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with AsyncAzureOpenAI(
        azure_endpoint=f"{gateway.url}/v1/az",
        api_key="not-the-one",
        api_version="2024-06-01",
        default_headers=headers,
        max_retries=0,
    ) as openai:
        upstream.reply(
            json={"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": []}
        )
        _ = await openai.chat.completions.create(model="my-gpt", messages=[{"role": "user", "content": "Hi"}])
        assert upstream.seen[0].target == (
            "/openai/deployments/my-gpt/chat/completions?api-version=2024-06-01"
        )
        assert upstream.seen[0].key == "azure-secret-0123456789"
        upstream.reply(json={"text": "Caw."})
        heard = await openai.audio.transcriptions.create(model="ears", file=b"RIFF")
        assert heard.text == "Caw."
        sent = len(upstream.seen)
        with pytest.raises(NotFoundError):
            await openai.files.retrieve("file-of-others")
        assert len(upstream.seen) == sent


async def test_a_deployment_in_the_path_is_the_model_whatever_the_body_says(
    azure: Callable[..., Any], upstream: MockUpstream
) -> None:
    gateway = await azure(**DATED)
    path = "/v1/az/openai/deployments/mine/chat/completions?api-version=1"
    for body in (b'{"messages":[{"role":"user"}]}', b'{"messages":[{"role":"user"}],"model":"other"}'):
        upstream.reply(json={"choices": [{"finish_reason": "stop"}]})
        headers = {"Content-Type": "application/json"}
        async with gateway.client.post(path, data=body, headers=headers) as answer:
            assert answer.status == 200
            assert answer.headers["X-Raven-Model"] == "mine"
        assert upstream.seen[-1].body == body
    async with gateway.client.post(path, json={"messages": "x"}) as answer:
        assert (await answer.json())["error"]["param"] == "messages"


@pytest.mark.parametrize("options", [{}, DATED])
async def test_files_lie_beside_the_deployments(
    azure: Callable[..., Any], upstream: MockUpstream, options: dict[str, str]
) -> None:
    gateway = await azure(**options)
    made = {"id": "assistant-1", "object": "file", "bytes": 1, "created_at": 1, "filename": "f"}
    upstream.reply(json=made | {"purpose": "batch", "status": "processed"})
    upstream.reply(json={"object": "list", "data": [made], "has_more": False})
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=ADMIN_KEY) as openai:
        _ = await openai.files.create(file=b"x", purpose="batch")
        assert [file.id async for file in await openai.files.list(limit=3)] == ["assistant-1"]
    base, query = ("/openai/v1", "") if not options else ("/openai", "api-version=2024-10-21")
    assert upstream.seen[0].target == f"{base}/files{'?' * bool(query)}{query}"
    assert upstream.seen[1].target == f"{base}/files?limit=10000{'&' * bool(query)}{query}"


async def test_images_and_speech_go_to_their_deployment(
    azure: Callable[..., Any], upstream: MockUpstream
) -> None:
    gateway = await azure(**DATED)
    upstream.reply(json={"created": 1, "data": []})
    async with gateway.client.post(
        "/v1/images/generations", json={"model": "az/dall e/3", "prompt": "x"}
    ) as answer:
        assert answer.status == 200
    assert upstream.seen[0].path == "/openai/deployments/dall%20e%2F3/images/generations"


async def test_foundrys_older_surface_has_a_name_of_its_own(
    raven: GatewayStarter, upstream: MockUpstream, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("azure-secret-0123456789")
    table = {"name": "az", "provider": "azure_foundry", "base_url": upstream.origin}
    gateway = await raven([], upstreams=[table | {"key": {"file": str(tmp_path / "key")}}])
    upstream.reply(json={"choices": [{"finish_reason": "stop"}]})
    async with gateway.client.post("/v1/chat/completions", json=CHAT) as answer:
        assert answer.status == 200
    assert upstream.seen[0].target == "/models/chat/completions?api-version=2024-05-01-preview"


@pytest.mark.parametrize("path", ["openai/v1/responses/resp_1", "openai/responses/resp_1/cancel"])
async def test_a_stored_response_has_an_owner_on_azures_paths_too(
    azure: Callable[..., Any], upstream: MockUpstream, path: str
) -> None:
    gateway = await azure()
    method = "POST" if path.endswith("cancel") else "GET"
    async with gateway.client.request(method, f"/v1/az/{path}") as answer:
        assert answer.status == 404
    assert upstream.seen == []


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("openai/deployments/x/chat/completions", "openai.chat"),
        ("deployments/x/embeddings", "openai.embeddings"),
        ("openai/v1/audio/speech", "openai.audio.speech"),
        ("openai/deployments/x/audio/transcriptions", "openai.audio.transcriptions"),
        ("models/chat/completions", "openai.chat"),
        ("openai/files/file-1", "openai.files"),
        ("OpenAI/v1/batches/b/cancel", "openai.batches"),
        ("openai/models", None),
        ("openai/assistants", None),
    ],
)
def test_raw_paths_are_known_under_every_prefix(endpoint: str, name: str | None) -> None:
    face = AzureProvider().find_face("POST", endpoint)
    assert (face.dialect.name if face is not None else None) == name
