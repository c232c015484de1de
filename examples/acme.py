"""A provider: the API of Acme (invented), for clients of every dialect that the gateway speaks.

Its `POST /talk` takes `{"engine", "live", "turns": [{"who", "say"}]}` and a key in `x-acme-key`. The answer
is `{"say", "units": [in, out]}`; live, server-sent events `{"id"}`, `{"say"}`, …, `{"units": [in, out]}`.

    [[upstreams]]
    name = "acme"
    provider = "acme"
    base_url = "https://api.acme.example/v1"
    key = { env = "ACME_API_KEY" }
"""

from collections.abc import Callable, Iterator

import msgspec

from raven_proxy import Exchange, InvalidRequest, Outgoing, Provider, ReplyHead, Stage, Usage, hookimpl, hub
from raven_proxy.dialects import SSEReader
from raven_proxy.errors import UpstreamRefused
from raven_proxy.headers import forward_request
from raven_proxy.refusals import refuse
from raven_proxy.translation import open_translation, read_request, refuse_dropped


@hookimpl
def register_providers(register: Callable[..., None]) -> None:
    register(Acme())


class Acme(Provider):
    name = "acme"

    def build_request(self, exchange: Exchange) -> Outgoing:
        assert exchange.candidate is not None
        base, model = exchange.candidate.upstream.base_path, exchange.candidate.model
        key = exchange.credential.value if exchange.credential is not None else ""
        headers = forward_request(exchange.headers) | {"x-acme-key": key}
        if exchange.face.raw:  # /v1/acme/…
            _, mark, query = exchange.request.raw_path.partition("?")
            target = f"{base}/{exchange.params['endpoint']}{mark}{query}"
            return Outgoing(exchange.request.method, target, headers, exchange.body)
        asked = read_request(exchange, hub.ChatRequest)
        if asked.tools or any(type(part) is not hub.Text for turn in asked.messages for part in turn.parts):
            raise InvalidRequest("Acme reads text and calls no tools.", param="messages")
        asked.drop_if_set("temperature", "top_p", "max_tokens", "stop")
        refuse_dropped(exchange, asked.dropped)  # under X-Raven-Strict
        turns = [{"who": turn.role, "say": turn.text()} for turn in asked.messages]
        body = msgspec.json.encode({"engine": model, "live": exchange.stream, "turns": turns})
        return Outgoing("POST", f"{base}/talk", headers | {"content-type": "application/json"}, body)

    def read_refusal(self, exchange: Exchange, head: ReplyHead, body: bytes) -> UpstreamRefused:
        return refuse("acme", head, body, exchange.credential.value if exchange.credential else "")

    def open_translator(self, exchange: Exchange, head: ReplyHead) -> Stage | None:
        return None if exchange.face.raw else open_translation(exchange, Replies(), streamed=exchange.stream)


class Replies:
    def read_reply(self, body: bytes) -> hub.ChatReply:
        said = msgspec.json.decode(body)
        choice = hub.Choice(parts=[hub.Text(text=said["say"])])
        return hub.ChatReply(choices=[choice], usage=count(*said["units"]))

    def open_reader(self) -> SSEReader:
        return SSEReader(lambda event: read_event(event.data or b"{}"), lambda: ())


def read_event(data: bytes) -> Iterator[hub.Event]:
    said = msgspec.json.decode(data)
    if "id" in said:
        yield hub.Started(id=said["id"])
    if "say" in said:
        yield hub.TextDelta(said["say"])
    if "units" in said:
        yield from (hub.UsageReported(count(*said["units"])), hub.Finished(finish="stop"), hub.Ended())


def count(read: int, written: int) -> Usage:
    return Usage(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)
