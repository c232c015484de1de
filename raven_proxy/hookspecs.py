"""Every hook of Raven Proxy, with its contract.

A plugin implements any of these under `@hookimpl`. The colour is fixed: where the spec is
`async def`, the plugin is `async def`; both are checked at start-up. A plugin asks only for
the arguments that it wants. Hooks of one kind run in the order of `plugins` in the config.

Gates (`authenticate` to `before_send`) may raise `Refused`, which the client sees in its own
dialect. Anything else a gate raises, or a gate that outlasts `[plugin.NAME] timeout_s`
(default 10 s), is a 500 (at `authenticate` a 503) and the request is not forwarded: gates fail
closed. Stages fail closed too. `finish_exchange` and `observe_event` fail quietly.

    register_faces, register_providers, register_models, register_routes, register_resources,
    register_commands
    startup → (authenticate → check_request → answer → choose_upstreams
               → provide_credential → before_send → open_stage → check_reply
               → settle_exchange → finish_exchange)* → shutdown
    beside requests: observe_event, find_principal, explain_exchange

One list, and that is why it has so many lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click

    from .events import Event
    from .exchange import Candidate, Credential, Exchange, Principal, Reply
    from .faces import Face, Stage
    from .findings import Finding
    from .gateway import Gateway
    from .providers import ModelInfo
    from .resources import Resource

__all__ = ["PROJECT", "hookimpl", "hookspec"]

PROJECT = "raven_proxy"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_faces(register: Callable[[Face], None]) -> None:
    """Offer something that clients can speak.

    Called once per start or reload, before `startup`. Two faces on one method and path are an
    error at the line of the second `register`.

        @hookimpl
        def register_faces(self, register):
            register(Face(name="chat", path="/v1/chat/completions", dialect=CHAT,
                          scope="chat:write", read_call=read_chat))
    """


@hookspec
def register_providers(register: Callable[..., None]) -> None:
    """Offer a vendor's API under a name and any number of presets.

    `register(provider, presets=())`, once per start or reload; what a provider is says `providers.Provider`,
    and `examples/acme.py` is one. Names must be unique over all plugins. With `implicit=True` an upstream of
    the provider's own name exists without any config.

        @hookimpl
        def register_providers(self, register):
            register(OpenAIProvider(), presets=("groq", "deepseek"))
    """


@hookspec
def register_models(register: Callable[[Callable[[str, str], ModelInfo | None]], None]) -> None:
    """Tell what is known of models: context windows, the longest answer, display names.

    `register(describe)`, where `describe(provider, model)` takes the provider's name as in `[[upstreams]]`
    and the vendor's name of the model, and gives a `ModelInfo` or None. It must answer from memory. The
    first plugin that knows a figure wins, and what the vendor itself lists wins over all.

        @hookimpl
        def register_models(self, register):
            register(lambda provider, model: WINDOWS.get((provider, model)))
    """


@hookspec
def register_routes(register: Callable[[Face], None]) -> None:
    """Add a route of the plugin's own, as a `Face` with `serve`.

    Routes pass the same gates as proxy faces: a key with `scope` is required unless the face
    says `public=True`.

        @hookimpl
        def register_routes(self, register):
            register(Face(name="hello", path="/hello", methods=("GET",), scope="admin:read",
                          read_call=read_nothing, serve=self.hello))
    """


@hookspec
def register_resources(register: Callable[[Resource[Any]], None]) -> None:
    """Add a kind of thing to the management API, declared once (`raven_proxy.resources`).

    Its routes, paging, organisation, roles, audit log and documentation come from the declaration; its
    table from the plugin's own migration in `startup`. A second one of the same name is an error.

        @hookimpl
        def register_resources(self, register):
            register(Resource(name="notes", singular="note", table="notes", prefix="note_",
                              body=Note, summary="Notes"))
    """


@hookspec
def register_commands(register: Callable[[click.Command], None]) -> None:
    """Add a command to `raven-proxy`.

    Called when the command line starts; the gateway is not running then.

        @hookimpl
        def register_commands(register):
            register(keys_group)
    """


@hookspec
async def startup(gateway: Gateway) -> None:
    """Prepare what the plugin needs, before the gateway listens.

    Called in config order, on start and on the new plugins of a reload. Raising aborts the start
    (or the reload): what had started is shut down in reverse, and the error is shown.

        @hookimpl
        async def startup(self, gateway):
            await gateway.storage.migrate("notes", ["CREATE TABLE notes (id TEXT PRIMARY KEY)"])
    """


@hookspec
async def shutdown(gateway: Gateway) -> None:
    """Release what `startup` took, after the last exchange of this pipeline.

    Called in reverse order. Raising is logged; the other plugins are still shut down.

        @hookimpl
        async def shutdown(self, gateway):
            await self.session.close()
    """


@hookspec(firstresult=True)
async def authenticate(exchange: Exchange) -> Principal | None:
    """Say who is calling: the first gate.

    Only `exchange.headers`, `.client_address`, `.face` and `.params` are known; the body is not
    read yet. The first `Principal` wins. None means "not my kind of key"; if every plugin says so,
    or none is installed, the request is refused with 401. Raise `Unauthenticated` for a key that is
    yours and bad.

        @hookimpl
        async def authenticate(self, exchange):
            record = self.keys.get(digest(exchange.headers.get("authorization", "")))
            return Principal(key_id=record.id) if record else None
    """


@hookspec
async def check_request(exchange: Exchange) -> Reply | None:
    """Judge or edit the request, now that `principal`, `body`, `call` and `candidates` are known.

    All are called. Raise `Refused` to stop it; call `exchange.replace_body(body)` to change it;
    set `exchange.response_headers[name]` to tell the client something. A `Reply` (its body is bytes) is
    what the client got for this request before: it goes out as it is, at once. The plugins after this
    one are not asked, nothing is metered, and no stage sees it.

        @hookimpl
        async def check_request(self, exchange):
            if exchange.model in self.config.forbidden:
                raise Refused(f"{exchange.model} is not for you.", code="model_not_allowed")
    """


@hookspec(firstresult=True)
async def answer(exchange: Exchange) -> Reply | None:
    """Answer in place of a provider (a cache, the demo provider).

    The first `Reply` wins and nothing is sent upstream; stages, usage and `finish_exchange` still
    apply. None goes on to routing.

        @hookimpl
        async def answer(self, exchange):
            return self.cache.get(cache_key(exchange))
    """


@hookspec(firstresult=True)
async def choose_upstreams(exchange: Exchange) -> Sequence[Candidate] | None:
    """Order the places that this request may go to.

    The first non-None answer wins; the gateway tries its candidates in order until one begins to
    reply. None everywhere uses `exchange.candidates` as they are. An empty list is a 503.

        @hookimpl
        async def choose_upstreams(self, exchange):
            return sorted(exchange.candidates, key=self.latency)
    """


@hookspec(firstresult=True)
async def provide_credential(exchange: Exchange) -> Credential | None:
    """Give the provider key for `exchange.candidate`.

    Called for each attempt. The first `Credential` wins; None everywhere uses the upstream's
    configured key.

        @hookimpl
        async def provide_credential(self, exchange):
            key = exchange.headers.get("x-provider-key")
            return Credential(key, source="byok") if key else None
    """


@hookspec
async def before_send(exchange: Exchange) -> None:
    """Edit `exchange.outgoing.headers`, just before an attempt is sent.

    All are called, for each attempt. Header names are lower case.

        @hookimpl
        async def before_send(exchange):
            exchange.outgoing.headers["x-team"] = exchange.principal.name
    """


@hookspec
def open_stage(exchange: Exchange) -> Stage | None:
    """Take part in the reply's bytes, by returning a `Stage`.

    Called once, when the reply's status and headers (`exchange.head`) are known, for replies with a
    status below 400. A stage is synchronous: `feed(bytes) -> bytes` for each piece, `close() -> bytes`
    at the end; a whole reply is one `feed` and one `close`. It sees what the client would get, decoded and
    in the client's dialect (`exchange.face.dialect.name`, `.content_type`), cut anywhere:
    `sse.EventReader` makes events of it, `testing.run_stage` tries every cut. Stages run in config order.

    A stage that raises ends the reply: its error (a whole reply, or a stream whose head is not out), or its
    dialect's error event and a cut connection. A `Refused` is told in its own words, anything else is a
    500; unfiltered bytes never pass. None takes no part and costs nothing.

        @hookimpl
        def open_stage(exchange):
            return Upper() if exchange.stream else None
    """


@hookspec
async def check_reply(exchange: Exchange) -> None:
    """Judge a whole (not streamed) reply in `exchange.reply_body`, before it is sent.

    All are called. Raise `Refused` to send an error instead; put another body there to change it. With
    `exchange.collects` set, in `open_stage` at the latest, a stream is whole too, and comes here.

        @hookimpl
        async def check_reply(self, exchange):
            if not valid(exchange.reply_body):
                raise Refused("The reply does not match the schema.", status=403)
    """


@hookspec
def settle_exchange(exchange: Exchange) -> None:
    """Settle what the exchange took: money, slots, a record that it ended.

    Called exactly once for every exchange that reached a face, when `outcome`, `usage` and `error` are
    known and before the reply's last bytes leave, so that what a client has got is on the books. It is
    synchronous and stands in the way of the reply: append to a file, change numbers, no more. A whole
    reply's headers can still be added to (`exchange.response_headers`). What it raises is logged.

        @hookimpl
        def settle_exchange(self, exchange):
            self.slots.give_back(exchange.principal.key_id)
    """


@hookspec
async def finish_exchange(exchange: Exchange) -> None:
    """Observe how it ended: `outcome`, `status`, `usage`, `attempts`, `error`.

    Called exactly once for every exchange that reached a face, whatever happened, in the
    background after the reply. Raising is logged and counted; the client never sees it.

        @hookimpl
        async def finish_exchange(self, exchange):
            self.rows.append((exchange.id, exchange.status))
    """


@hookspec
async def observe_event(event: Event) -> None:
    """Learn of something that happened beside the requests (`events.Event`).

    All are called in the background, in the process that published it (`Gateway.publish`). Raising is logged.

        @hookimpl
        async def observe_event(self, event):
            self.seen[event.type] = self.seen.get(event.type, 0) + 1
    """


@hookspec(firstresult=True)
async def find_principal(key_id: str) -> Principal | None:
    """Say who a caller is that is known by an id and not by a secret, for `/explain`; None if unknown.

    The first plugin that knows the id answers. Whether the caller may ask about it is the core's to judge.

        @hookimpl
        async def find_principal(self, key_id):
            return self.principals.get(key_id)
    """


@hookspec
async def explain_exchange(exchange: Exchange) -> Sequence[Finding] | None:
    """Say which of the plugin's rules would apply to a request that is only imagined, and why not the others.

    All are called, in the order of the gates, for a request that the core would let pass. It takes nothing,
    counts nothing, writes nothing and calls nobody. It may narrow `exchange.candidates` as `check_request`
    does. Raising fails `/explain` and nothing else.

        @hookimpl
        async def explain_exchange(self, exchange):
            verdict = "refuses" if is_night() else "allows"
            return [Finding(rule="opening hours", verdict=verdict, reason="Open from 6 to 22.")]
    """
