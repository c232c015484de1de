"""`POST /explain`: what would become of a request, and why, without sending it to anybody.

The request is only imagined. The core leads it through what it judges itself (route, scope, body, model)
with the very functions that judge real ones, then asks every plugin's `explain_exchange`, in the order of
its gates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from . import attempts
from .config import FIRST_PARTY
from .errors import Forbidden, GatewayError, InvalidRequest, NoActiveKey, NotFound
from .exchange import Candidate, Exchange, Principal, Reply
from .faces import UNROUTED, Doc, Face, read_nothing
from .findings import Finding
from .headers import collect_request
from .intake import require_json
from .judging import judge
from .pipeline import call_each, call_first
from .raw import find_raw_face
from .resources import outranks
from .resources.fields import as_validation
from .routes import check_path

if TYPE_CHECKING:
    from aiohttp.web import BaseRequest

__all__ = ["explain_face"]

_WRITES = frozenset({"POST", "PUT", "PATCH"})
_CREDENTIALS = frozenset({"authorization", "x-api-key", "x-goog-api-key", "cookie"})
Text = Annotated[str, Meta(max_length=8192)]


class Question(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """A request to imagine. Without `keyId` it is the caller's own.

    Of `headers` those count that rules look at (`X-Provider-Key`, `Host`); credentials are passed over.
    """

    body: dict[str, Any] | None = None
    path: Annotated[str, Meta(pattern="^/", max_length=2048)] = "/v1/chat/completions"
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] = "POST"
    headers: dict[Text, Text] = {}
    key_id: Annotated[str, Meta(max_length=200)] | None = None
    client_address: Annotated[str, Meta(max_length=64)] | None = None


class Asker(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Whose request it is. `allowedModels` is null for all."""

    id: str
    organization_id: str
    role: str
    scopes: list[str]
    allowed_models: list[str] | None


class Place(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where it could go, in order. `key` says whose key would be used there."""

    upstream: str
    provider: str
    model: str | None
    region: str | None
    key: Literal["stored", "caller", "none needed", "missing"]


class Told(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A finding, and the plugin that made it ("core" for the gateway itself)."""

    plugin: str
    rule: str
    verdict: str
    reason: str
    status: int | None
    code: str | None
    details: dict[str, Any]


class Explanation(msgspec.Struct, kw_only=True, rename="camel"):
    """What would become of it. `error` is the first refusal, if any: what the client would get."""

    outcome: Literal["allowed", "refused"]
    key: Asker
    face: str | None
    scope: str | None
    model: str | None
    candidates: list[Place]
    findings: list[Told]
    error: Told | None


class _Imagined:
    """As much of a request as judges look at."""

    version = (1, 1)
    keep_alive = True
    protocol = None

    def __init__(self, question: Question, remote: str | None) -> None:
        self.method = question.method
        self.raw_path = question.path
        self.path, _, query = question.path.partition("?")
        self.query = dict(parse_qsl(query, keep_blank_values=True))
        self.remote = remote


def explain_face() -> Face:
    """Build the face `POST /explain`."""
    return Face(
        name="explain",
        path="/explain",
        scope="admin:read",
        role="viewer",
        read_call=read_nothing,
        serve=_serve,
        doc=Doc(
            summary="What would become of a request, and why; calls nobody",
            tag="explain",
            request=Question,
            reply=Explanation,
        ),
    )


_decode = msgspec.json.Decoder(Question).decode


async def _serve(exchange: Exchange) -> Reply:
    question = as_validation(lambda: judge(_decode, exchange.body))
    principal = await _find_principal(exchange, question)
    explanation = await _explain(exchange, question, principal)
    return Reply(200, {"Content-Type": "application/json"}, msgspec.json.encode(explanation))


async def _find_principal(exchange: Exchange, question: Question) -> Principal:
    caller = exchange.principal
    assert caller is not None
    if question.key_id is None or question.key_id == caller.key_id:
        return caller
    found: Principal | None = await call_first(exchange.pipeline.find_principal, question.key_id)
    if found is None or found.organization_id != caller.organization_id:
        raise NotFound("There is no active key of that id.", param="keyId")
    return found


async def _explain(real: Exchange, question: Question, principal: Principal) -> Explanation:
    pipeline = real.pipeline
    request = cast("BaseRequest", _Imagined(question, real.request.remote))
    exchange = Exchange(request, pipeline, real.id)
    exchange.principal = principal
    exchange.client_address = question.client_address or real.client_address
    told = [_tell("core", finding) for finding in _judge(exchange, question, principal)]
    is_routed = exchange.face is not UNROUTED
    if is_routed and not any(one.verdict == "refuses" for one in told):
        for plugin, findings in await call_each(pipeline.explain_exchange, exchange):
            told += [_tell(plugin, finding) for finding in findings or ()]
        told += [_tell("core", finding) for finding in _check_keys(exchange)]
    error = next((one for one in told if one.verdict == "refuses"), None)
    is_proxied = exchange.face.serve is None
    return Explanation(
        outcome="refused" if error is not None else "allowed",
        key=Asker(
            id=principal.key_id,
            organization_id=principal.organization_id,
            role=principal.role,
            scopes=sorted(principal.scopes),
            allowed_models=None if principal.allowed_models is None else sorted(principal.allowed_models),
        ),
        face=exchange.face.name if is_routed else None,
        scope=exchange.face.scope,
        model=exchange.call.model,
        candidates=[_place(exchange, one) for one in exchange.candidates] if is_proxied else [],
        findings=told,
        error=error,
    )


def _judge(exchange: Exchange, question: Question, principal: Principal) -> Iterator[Finding]:
    """Lead a request through what the core judges; end at the first refusal."""
    steps: tuple[tuple[str, Callable[[], str]], ...] = (
        ("route", lambda: _route(exchange, question)),
        ("scope", lambda: _check_scope(exchange, principal)),
        ("body", lambda: _read(exchange, question)),
        ("model", lambda: _resolve(exchange, principal)),
    )
    for rule, step in steps:
        try:
            yield Finding(rule=rule, verdict="allows", reason=step())
        except GatewayError as error:
            yield Finding.refusing(rule, error)
            return


def _route(exchange: Exchange, question: Question) -> str:
    path = check_path(question.path)
    given = {name: value for name, value in question.headers.items() if name.lower() not in _CREDENTIALS}
    exchange.headers = collect_request(given.items())
    exchange.face, exchange.params = exchange.pipeline.routes.find(question.method, path)
    if exchange.face.raw:
        exchange.face = find_raw_face(exchange)
    face = exchange.face
    what = "the provider's own API, byte for byte" if face.raw else f"the face {face.name}"
    return f"{question.method} {path} is {what}."


def _check_scope(exchange: Exchange, principal: Principal) -> str:
    face = exchange.face
    if face.scope is not None and face.scope not in principal.scopes:
        raise Forbidden(f"This key lacks the scope {face.scope}.", code="missing_scope")
    if face.role is not None and not outranks(principal.role, face.role):
        raise Forbidden(f"This takes the role {face.role}; yours is {principal.role}.")
    needed = [f"the scope {face.scope}"] if face.scope else []
    needed += [f"the role {face.role}"] if face.role else []
    return f"It takes {' and '.join(needed)}, and the key has that." if needed else "Any valid key will do."


def _read(exchange: Exchange, question: Question) -> str:
    if exchange.face.json_body and question.method in _WRITES:
        if question.body is None:
            raise InvalidRequest("Give the body that it would have.", param="body")
        require_json({"content-type": "application/json"})
    exchange.body = b"" if question.body is None else msgspec.json.encode(question.body)
    exchange.call = exchange.face.read_call(exchange.body)
    return f"{len(exchange.body):,} bytes that the face can read."


def _resolve(exchange: Exchange, principal: Principal) -> str:
    if exchange.face.serve is not None:
        return "The gateway answers by itself."
    attempts.resolve(exchange)
    attempts.check_model(exchange, principal)
    model = exchange.call.model
    if model is None:
        return "It names no model; the place is found otherwise."
    places = ", ".join(f"{one.upstream.label}/{one.model}" for one in exchange.candidates)
    return f"{model!r} stands for {places}."


def _check_keys(exchange: Exchange) -> Iterator[Finding]:
    """Say that nobody has a key for any of the places, if so."""
    places = [_place(exchange, one) for one in exchange.candidates]
    if exchange.face.serve is not None or not places or any(one.key != "missing" for one in places):
        return
    error = NoActiveKey(f"The upstream {places[-1].upstream} has no key; set one or send X-Provider-Key.")
    if all(call.plugin in FIRST_PARTY for call in exchange.pipeline.provide_credential):
        yield Finding.refusing("provider key", error)
    else:
        reason = f"{error.message} A plugin may give one."
        yield Finding(rule="provider key", verdict="passes_over", reason=reason)


def _place(exchange: Exchange, candidate: Candidate) -> Place:
    upstream = candidate.upstream
    key: Any = "missing"
    if "x-provider-key" in exchange.headers:
        key = "caller"
    elif upstream.credential is not None:
        key = "stored"
    elif not upstream.provider.needs_key(upstream.preset):
        key = "none needed"
    return Place(
        upstream=upstream.label,
        provider=upstream.preset,
        model=candidate.model,
        region=upstream.region or None,
        key=key,
    )


def _tell(plugin: str, finding: Finding) -> Told:
    fields: Mapping[str, Any] = msgspec.structs.asdict(finding)
    return Told(plugin=plugin, **fields)
