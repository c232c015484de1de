"""Files and batches through a running gateway belong to the organisation that made them, on every path."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from itertools import count
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest
from openai import AsyncOpenAI, BadRequestError, InternalServerError, NotFoundError
from raven_openai.stored import ownership, routing
from yarl import URL

from raven_proxy import Exchange, Principal, hookimpl
from raven_proxy.harness import ADMINISTRATOR, GatewayStarter, RunningGateway
from raven_proxy.mock import MockUpstream, ScriptedReply, Seen


class Organizations:
    """Takes `key-of-X` for a key of the organisation X; `key-of-X-limited` may call some models."""

    @hookimpl
    async def authenticate(self, exchange: Exchange) -> Principal | None:
        key = exchange.headers.get("authorization", "").removeprefix("Bearer ")
        match = re.fullmatch(r"key-of-(\w+)(-limited)?(-whole)?", key)
        if match is None:
            return None
        allowed = ("gpt-4o",) if match[2] else ("mock/*",) if match[3] else None
        return Principal(
            key_id=key, organization_id=match[1], scopes=ADMINISTRATOR.scopes, allowed_models=allowed
        )


class Vendor:
    """Keeps files and batches as OpenAI does: one account, newest first, `limit` and `after`."""

    def __init__(self, upstream: MockUpstream, prefix: str = "") -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.contents: dict[str, bytes] = {}
        self._numbers = count(1)
        self._prefix = prefix
        upstream.handler = self.answer

    def make(self, kind: str, **fields: Any) -> dict[str, Any]:
        its_id = f"{kind}-{self._prefix}{next(self._numbers)}"
        made = {"id": its_id, "object": kind, "created_at": 1, "purpose": "batch", "status": "x", "bytes": 1}
        self.objects[its_id] = (
            made | {"filename": "f", "endpoint": "/v1/x", "completion_window": "24h"} | fields
        )
        return self.objects[its_id]

    async def answer(self, seen: Seen) -> ScriptedReply:
        _, _, resource, *rest = seen.path.split("/")
        kind = {"files": "file", "batches": "batch", "uploads": "upload"}[resource]
        if not rest:
            return self._list(seen, kind) if seen.method == "GET" else self._create(seen, kind)
        found = self.objects.get(rest[0])
        if found is None:
            return ScriptedReply.of_json({"error": {"message": "No such object."}}, status=404)
        if rest[1:] == ["content"]:
            headers = {"Content-Type": "application/octet-stream"}
            return ScriptedReply(headers=headers, body=self.contents[rest[0]])
        if rest[1:] == ["complete"]:
            found["file"] = self.make("file")
        if seen.method == "DELETE":
            del self.objects[rest[0]]
            return ScriptedReply.of_json({"id": rest[0], "object": kind, "deleted": True})
        return ScriptedReply.of_json(found)

    def _create(self, seen: Seen, kind: str) -> ScriptedReply:
        made = self.make(kind, **({"input_file_id": seen.json["input_file_id"]} if kind == "batch" else {}))
        if kind == "file":
            self.contents[made["id"]] = seen.body.split(b"\r\n\r\n")[-1].rsplit(b"\r\n--", 1)[0]
        return ScriptedReply.of_json(made)

    def _list(self, seen: Seen, kind: str) -> ScriptedReply:
        query = parse_qs(seen.target.partition("?")[2])
        every = [o for o in reversed(self.objects.values()) if o["object"] == kind]
        ids = [o["id"] for o in every]
        start = ids.index(query["after"][0]) + 1 if "after" in query else 0
        limit = int(query.get("limit", ["20"])[0])
        page = every[start : start + limit]
        ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {}
        more = len(every) > start + limit
        return ScriptedReply.of_json({"object": "list", "data": page, "has_more": more, **ends})


def client(gateway: RunningGateway, organization: str, path: str = "/v1") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{gateway.url}{path}", api_key=f"key-of-{organization}", max_retries=0)


def bearer(organization: str) -> dict[str, str]:
    return {"Authorization": f"Bearer key-of-{organization}"}


@pytest.mark.parametrize("path", ["/v1", "/v1/openai", "/v1/mock"])
async def test_a_file_lives_and_dies_with_the_official_client(
    raven: GatewayStarter, upstream: MockUpstream, path: str
) -> None:
    Vendor(upstream)
    gateway = await raven([Organizations()], upstreams=[upstream])
    content = os.urandom(2 * 2**20)
    async with client(gateway, "a", path) as openai:
        made = await openai.files.create(file=("x.jsonl", content), purpose="batch")
        assert (await openai.files.retrieve(made.id)).id == made.id
        assert (await openai.files.content(made.id)).content == content
        assert [file.id async for file in await openai.files.list()] == [made.id]
        assert (await openai.files.delete(made.id)).deleted
        sent = len(upstream.seen)
        with pytest.raises(NotFoundError):
            await openai.files.retrieve(made.id)
        assert [file.id async for file in await openai.files.list()] == []
    assert len(upstream.seen) == sent + 1
    assert upstream.seen[0].headers["content-type"].startswith("multipart/form-data; boundary=")
    assert content in upstream.seen[0].body


@pytest.mark.parametrize("path", ["/v1", "/v1/openai", "/v1/mock", "/api/v1/mock"])
async def test_another_organisations_file_is_not_there(
    raven: GatewayStarter, upstream: MockUpstream, path: str
) -> None:
    vendor = Vendor(upstream)
    stranger = vendor.make("file")["id"]
    gateway = await raven([Organizations()], upstreams=[upstream])
    async with client(gateway, "a") as ours, client(gateway, "b", path) as theirs:
        made = await ours.files.create(file=b"x", purpose="batch")
        sent = len(upstream.seen)
        for one in (made.id, stranger, "file-none"):
            for call in (theirs.files.retrieve, theirs.files.delete, theirs.files.content):
                with pytest.raises(NotFoundError) as caught:
                    await call(one)
                assert caught.value.code == "not_found"
            with pytest.raises(NotFoundError):
                await theirs.batches.create(
                    input_file_id=one, endpoint="/v1/responses", completion_window="24h"
                )
        with pytest.raises(NotFoundError):
            await theirs.files.list(after=made.id)
        assert len(upstream.seen) == sent
        assert (await ours.files.retrieve(made.id)).id == made.id
    assert set(vendor.objects) == {stranger, made.id}


@pytest.mark.parametrize(
    "spelling",
    ["%66iles/{id}", "files/{id}/", "Files/{id}", "v1/files/{id}", "files/{id}/content", "files/{id}/new"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "PUT"])
async def test_no_raw_spelling_leads_around_the_owner(
    raven: GatewayStarter, upstream: MockUpstream, spelling: str, method: str
) -> None:
    made = Vendor(upstream).make("file")["id"]
    gateway = await raven([Organizations()], upstreams=[upstream])
    url = f"{gateway.url}/v1/mock/" + spelling.format(id=made)
    async with gateway.client.request(method, URL(url, encoded=True), headers=bearer("b")) as answer:
        assert answer.status == 404
    assert upstream.seen == []


@pytest.mark.parametrize("path", ["/v1", "/v1/mock"])
async def test_lists_hold_only_ones_own_and_their_cursors_are_true(
    raven: GatewayStarter, upstream: MockUpstream, path: str
) -> None:
    vendor = Vendor(upstream)
    gateway = await raven([Organizations()], upstreams=[upstream])
    async with client(gateway, "a", path) as a, client(gateway, "b", path) as b:
        ids: dict[str, list[str]] = {"a": [], "b": []}
        for number in range(12):
            name = "b" if number % 4 == 0 else "a"
            made = await (a if name == "a" else b).files.create(file=b"x", purpose="batch")
            ids[name].insert(0, made.id)
        vendor.make("file")
        assert [file.id async for file in await a.files.list()] == ids["a"]
        assert [file.id async for file in await b.files.list()] == ids["b"]
        assert [file.id async for file in await a.files.list(limit=4)] == ids["a"]
        page: Any = await a.files.list(limit=4)
        kept = len(page.data)
        assert (page.first_id, page.last_id, page.has_more) == (ids["a"][0], ids["a"][kept - 1], True)
    async with gateway.client.get(f"{path}/files", headers=bearer("c")) as answer:
        empty = await answer.json()
    assert empty == {"object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None}


async def test_a_list_that_is_all_ones_own_passes_byte_for_byte(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    Vendor(upstream)
    gateway = await raven([Organizations()], upstreams=[upstream])
    async with client(gateway, "a") as openai:
        made = await openai.files.create(file=b"x", purpose="batch")
    body = b' { "object": "list",\n "data" : [ {"id": "%b"} ], "has_more": false }' % made.id.encode()
    upstream.script(ScriptedReply(headers={"Content-Type": "application/json"}, body=body))
    async with gateway.client.get("/v1/files?purpose=batch&provider=mock", headers=bearer("a")) as answer:
        assert await answer.read() == body
    assert upstream.seen[-1].target == "/v1/files?purpose=batch&limit=10000"


@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"data":1}', b'{"data":[', b"<html>file-1</html>"])
async def test_a_list_that_cannot_be_read_does_not_pass(
    raven: GatewayStarter, upstream: MockUpstream, kind: str, body: bytes
) -> None:
    gateway = await raven([Organizations()], upstreams=[upstream])
    upstream.script(ScriptedReply(headers={"Content-Type": kind}, body=body))
    try:
        async with gateway.client.get("/v1/files", headers=bearer("a")) as answer:
            assert answer.status == 502
            assert body not in await answer.read()
    except OSError:  # a reply that is no JSON had begun: it is cut
        assert kind == "text/plain"


@pytest.mark.parametrize("path", ["/v1", "/v1/mock"])
async def test_a_batch_and_its_output_belong_to_who_made_it(
    raven: GatewayStarter, upstream: MockUpstream, path: str
) -> None:
    vendor = Vendor(upstream)
    gateway = await raven([Organizations()], upstreams=[upstream])
    async with client(gateway, "a", path) as a, client(gateway, "b", path) as b:
        file = await a.files.create(file=b"x", purpose="batch")
        batch = await a.batches.create(
            input_file_id=file.id, endpoint="/v1/responses", completion_window="24h"
        )
        output, errors = vendor.make("file")["id"], vendor.make("file")["id"]
        vendor.objects[batch.id] |= {"output_file_id": output, "error_file_id": errors}
        vendor.contents |= {output: b"{}\n", errors: b""}
        with pytest.raises(NotFoundError):
            await a.files.content(output)
        assert (await a.batches.retrieve(batch.id)).output_file_id == output
        assert (await a.files.content(output)).content == b"{}\n"
        assert (await a.files.content(errors)).content == b""
        for one in (output, errors):
            with pytest.raises(NotFoundError):
                await b.files.content(one)
        for call in (b.batches.retrieve, b.batches.cancel):
            with pytest.raises(NotFoundError):
                await call(batch.id)
        assert (await a.batches.cancel(batch.id)).id == batch.id
        assert [found.id async for found in await a.batches.list(limit=5)] == [batch.id]
        assert [found.id async for found in await b.batches.list()] == []


async def test_an_upload_becomes_a_file_of_its_owner(raven: GatewayStarter, upstream: MockUpstream) -> None:
    Vendor(upstream)
    gateway = await raven([Organizations()], upstreams=[upstream])
    async with client(gateway, "a") as a, client(gateway, "b") as b:
        upload = await a.uploads.create(bytes=1, filename="f", mime_type="text/jsonl", purpose="batch")
        _ = await a.uploads.parts.create(upload_id=upload.id, data=b"x")
        for call in (b.uploads.cancel(upload.id), b.uploads.complete(upload.id, part_ids=[])):
            with pytest.raises(NotFoundError):
                await call
        done = await a.uploads.complete(upload.id, part_ids=["part_1"])
        assert done.file is not None
        assert (await a.files.retrieve(done.file.id)).id == done.file.id
        with pytest.raises(NotFoundError):
            await b.files.retrieve(done.file.id)


async def test_the_place_is_the_owners_the_named_one_or_the_first(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    async with MockUpstream() as second:
        Vendor(upstream, "one-")
        Vendor(second, "two-")
        gateway = await raven([Organizations()], upstreams=[upstream, second])
        async with client(gateway, "a") as openai:
            first = await openai.files.create(file=b"x", purpose="batch")
            header = {"X-Raven-Upstream": "mock2"}
            other = await openai.files.create(file=b"x", purpose="batch", extra_headers=header)
            third = await openai.files.create(file=b"x", purpose="batch", extra_query={"provider": "mock2"})
            assert [made.id for made in (first, other, third)] == ["file-one-1", "file-two-1", "file-two-2"]
            assert "x-raven-upstream" not in second.seen[0].headers
            assert second.seen[1].target == "/v1/files"
            assert (await openai.files.retrieve(other.id)).id == other.id
            batch = await openai.batches.create(
                input_file_id=other.id, endpoint="/v1/responses", completion_window="24h"
            )
            assert batch.id.startswith("batch-two-")
            with pytest.raises(BadRequestError, match="mock2"):
                await openai.batches.create(
                    input_file_id=other.id,
                    endpoint="/v1/responses",
                    completion_window="24h",
                    extra_headers={"X-Raven-Upstream": "mock"},
                )
            with pytest.raises(BadRequestError, match="choose one of: mock, mock2"):
                await openai.files.list(extra_headers={"X-Raven-Upstream": "demo"})
        async with client(gateway, "a", "/v1/mock") as wrong, client(gateway, "a", "/v1/openai") as either:
            with pytest.raises(NotFoundError):
                await wrong.files.retrieve(other.id)
            assert (await either.files.retrieve(other.id)).id == other.id


async def test_a_key_limited_to_models_may_not_store(raven: GatewayStarter, upstream: MockUpstream) -> None:
    Vendor(upstream)
    gateway = await raven([Organizations()], upstreams=[upstream])
    for path in ("/v1", "/v1/mock"):
        for resource in ("files", "batches"):
            async with gateway.client.get(f"{path}/{resource}", headers=bearer("a-limited")) as answer:
                assert answer.status == 403
                assert (await answer.json())["error"]["code"] == "model_not_allowed"
            async with gateway.client.get(f"{path}/{resource}", headers=bearer("a-whole")) as answer:
                assert answer.status == 200
    assert len(upstream.seen) == 4


async def test_owners_outlive_a_restart_and_a_reload(raven: GatewayStarter, upstream: MockUpstream) -> None:
    Vendor(upstream)
    gateway = await raven([Organizations()], upstreams=[upstream])
    async with client(gateway, "a") as openai:
        made = await openai.files.create(file=b"x", purpose="batch")
        await gateway.gateway.storage.flush()
        await gateway.reload()
        assert (await openai.files.retrieve(made.id)).id == made.id


async def test_a_plugin_that_orders_candidates_cannot_lead_elsewhere(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    class Backwards:
        @hookimpl
        async def choose_upstreams(self, exchange: Exchange) -> Any:
            return exchange.candidates[::-1]

    async with MockUpstream() as second:
        Vendor(upstream)
        gateway = await raven([Organizations(), Backwards()], upstreams=[upstream, second])
        async with client(gateway, "a") as openai:
            made = await openai.files.create(file=b"x", purpose="batch")
            assert (await openai.files.retrieve(made.id)).id == made.id
        assert second.seen == []


async def test_recorded_objects_pass_byte_for_byte_and_are_noted(
    raven: GatewayStarter, upstream: MockUpstream, recorded: Callable[[str], list[dict[str, Any]]]
) -> None:
    gateway = await raven([Organizations()], upstreams=[upstream])
    for recording in [
        *recorded("openai/files-*"),
        *recorded("mistral/files-*"),
        *recorded("openai/batches-*"),
    ]:
        resource = "batches" if "/batches" in recording["request"]["url"] else "files"
        reply = ScriptedReply.from_recording(recording)
        made = msgspec.json.decode(reply.body)["id"]
        upstream.script(reply, reply)
        sent = b'{"endpoint":"/v1/responses"}'
        headers = {**bearer("a"), "Content-Type": "application/json"}
        async with gateway.client.post(f"/v1/{resource}", data=sent, headers=headers) as answer:
            assert await answer.read() == reply.body
        async with gateway.client.get(f"/v1/{resource}/{made}", headers=bearer("a")) as answer:
            assert await answer.read() == reply.body
        async with gateway.client.get(f"/v1/{resource}/{made}", headers=bearer("b")) as answer:
            assert answer.status == 404
        assert upstream.seen[-1].target == f"/v1/{resource}/{made}"


async def test_batches_behind_many_of_others_are_found(
    raven: GatewayStarter, upstream: MockUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "_LIMITS", {"file": (20, 20), "batch": (3, 4)})
    clock = count(1_000_000, 1000)
    monkeypatch.setattr(ownership.time, "time", lambda: next(clock))
    Vendor(upstream)
    gateway = await raven([Organizations()], upstreams=[upstream])
    mine: list[str] = []
    async with client(gateway, "a") as a, client(gateway, "b") as b:
        for number in range(40):
            maker = a if number in {3, 4, 20} else b
            made = await maker.batches.create(input_file_id="", endpoint="/v1/x", completion_window="24h")
            if maker is a:
                mine.insert(0, made.id)
        assert [found.id async for found in await a.batches.list()] == mine
        assert [found.id async for found in await a.batches.list(limit=1)] == mine
        assert len([found.id async for found in await b.batches.list()]) == 37
        assert [found.id async for found in await a.batches.list(after=mine[1])] == mine[2:]


@pytest.mark.parametrize("status", [200, 204])
async def test_a_delete_without_words_is_one(
    raven: GatewayStarter, upstream: MockUpstream, status: int
) -> None:
    Vendor(upstream)
    gateway = await raven([Organizations()], upstreams=[upstream])
    async with client(gateway, "a") as openai:
        made = await openai.files.create(file=b"x", purpose="batch")
        upstream.script(ScriptedReply(status=status))
        async with gateway.client.delete(f"/v1/files/{made.id}", headers=bearer("a")) as answer:
            assert answer.status == status
        with pytest.raises(NotFoundError):
            await openai.files.retrieve(made.id)


async def test_what_was_not_deleted_is_still_ones_own(raven: GatewayStarter, upstream: MockUpstream) -> None:
    Vendor(upstream)
    gateway = await raven([Organizations()], upstreams=[upstream])
    async with client(gateway, "a") as openai:
        made = await openai.files.create(file=b"x", purpose="batch")
        upstream.reply(json={"id": made.id, "object": "file", "deleted": False})
        assert not (await openai.files.delete(made.id)).deleted
        upstream.reply(json={"error": {"message": "Not now."}}, status=409)
        async with gateway.client.delete(f"/v1/files/{made.id}", headers=bearer("a")) as answer:
            assert answer.status == 409
        assert (await openai.files.retrieve(made.id)).id == made.id


@pytest.mark.parametrize("path", ["/v1/files", "/v1/mock/files"])
async def test_a_head_of_a_list_says_nothing_of_others(
    raven: GatewayStarter, upstream: MockUpstream, path: str
) -> None:
    gateway = await raven([Organizations()], upstreams=[upstream])
    upstream.script(ScriptedReply(headers={"Content-Type": "application/json"}, content_length=999))
    async with gateway.client.head(path, headers=bearer("a")) as answer:
        assert answer.status == 200
        assert answer.headers.get("Content-Length") != "999"


@pytest.mark.parametrize("body", [b"", b"[", b'{"input_file_id":1}', b'{"a":1,"a":2}', b"[]"])
async def test_a_batch_that_cannot_be_judged_is_a_400(
    raven: GatewayStarter, upstream: MockUpstream, body: bytes
) -> None:
    gateway = await raven([Organizations()], upstreams=[upstream])
    headers = {**bearer("a"), "Content-Type": "application/json"}
    for path in ("/v1/batches", "/v1/mock/batches"):
        async with gateway.client.post(path, data=body, headers=headers) as answer:
            assert answer.status == 400
    assert upstream.seen == []


async def test_an_upstream_that_is_gone_is_said_to_be(raven: GatewayStarter, upstream: MockUpstream) -> None:
    async with MockUpstream() as second:
        Vendor(second)
        gateway = await raven([Organizations()], upstreams=[upstream, second])
        async with client(gateway, "a") as openai:
            named = {"X-Raven-Upstream": "mock2"}
            made = await openai.files.create(file=b"x", purpose="batch", extra_headers=named)
            await gateway.gateway.storage.flush()
            key = {"file": str(gateway.folder / "provider-key")}
            left = {"name": "mock", "provider": "openai", "base_url": upstream.url, "key": key}
            await gateway.reload({"upstreams": [left]})
            with pytest.raises(InternalServerError, match="mock2") as caught:
                await openai.files.retrieve(made.id)
            assert caught.value.status_code == 503


@pytest.mark.parametrize("framing", ["close", "chunked", "content-length"])
@pytest.mark.parametrize("kind", ["application/jsonl", "application/octet-stream", "application/json"])
async def test_the_content_of_a_file_passes_whatever_it_is(
    raven: GatewayStarter, upstream: MockUpstream, kind: str, framing: Any
) -> None:
    Vendor(upstream)
    gateway = await raven([Organizations()], upstreams=[upstream])
    lines = b'{"custom_id":"1"}' if kind == "application/json" else b'{"custom_id":"1"}\n{"custom_id":"2"}\n'
    async with client(gateway, "a") as openai:
        made = await openai.files.create(file=b"x", purpose="batch")
        end: Any = "close" if framing == "close" else "keep-alive"
        upstream.script(ScriptedReply(headers={"Content-Type": kind}, body=lines, framing=framing, end=end))
        assert (await openai.files.content(made.id)).content == lines
