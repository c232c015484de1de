"""The provider `bedrock`: chooses the operation, signs, and opens what reads the reply.

Claude for a client of Anthropic's Messages goes by InvokeModel, every other chat by Converse, embeddings
by InvokeModel; raw paths go as they are. Sends nothing itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from weakref import WeakKeyDictionary

import msgspec

from raven_proxy import hub, translation
from raven_proxy.errors import InvalidRequest, UpstreamRefused
from raven_proxy.exchange import Candidate, Exchange, Outgoing, ReplyHead
from raven_proxy.faces import Face, Stage
from raven_proxy.headers import forward_request
from raven_proxy.metering import EventTap, WholeTap
from raven_proxy.providers import ModelInfo, UsageTap
from raven_proxy.refusals import VendorError, refuse
from raven_proxy.upstream import Upstream

from .accounts import Account, find_region, open_account, read_options
from .counting import bare_id, open_count, write_count
from .embeddings import EmbeddingsSide, write_embeddings
from .eventstream import Headers
from .invoke import build_body, find_refused_member, open_messages
from .links import fetch_anthropic, fetch_hub, find_links
from .metering import InvokeSide
from .models import Model, encode_id, read_model
from .raw import CONVERSE, INVOKE, find_raw_face
from .replies import Context
from .requests import write_request
from .streams import ConverseSide
from .wire import read_fault, status_of

__all__ = ["BedrockProvider"]

_NOTE = "bedrock"  # the key of the `_Plan` in `exchange.notes`
_MESSAGES = "anthropic.messages"
_ADJUSTED = "X-Raven-Adjusted"
_NOT_SENT = ("x-amz-", "x-amzn-trace", "amz-sdk-", "anthropic-", "x-stainless-")
_EVENT_STREAM = "application/vnd.amazon.eventstream"


class _Plan(msgspec.Struct):
    """How one attempt asks, for whoever reads the answer."""

    kind: Literal["converse", "messages", "count", "embeddings"]
    model: Model
    json_tool: str | None = None
    titles: dict[str, str] = {}
    body: bytes | None = None  # the client's, with bytes in the place of links


class BedrockProvider:
    """Amazon Bedrock. `environment` is the process's, as it was at start."""

    name = "bedrock"
    stored_options = frozenset({"region", "fetch_images", "family", "betas"})  # the others are secrets
    lends_credentials = True

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        known = os.environ if environment is None else environment
        self._environment = {name: value for name, value in known.items() if name.startswith("AWS_")}
        self._accounts: WeakKeyDictionary[Upstream, Account] = WeakKeyDictionary()

    # -- what the config asks ------------------------------------------------------

    def base_url(self, preset: str) -> str | None:
        """Give the address in the environment's region."""
        del preset
        return _address(find_region(read_options({}), "", None, self._environment))

    def find_address(self, preset: str, options: Mapping[str, Any]) -> str | None:
        """Give the address of one upstream: in the region of its options. Raises ConfigError."""
        del preset
        return _address(find_region(read_options(options), "", None, self._environment))

    def check_options(self, preset: str, options: Mapping[str, Any]) -> None:
        """Judge an upstream's options at start. Raises ConfigError, also for a secret that is not there."""
        del preset
        found = read_options(options)
        for secret in (found.access_key_id, found.secret_access_key, found.session_token):
            if secret is not None:
                secret.reveal()

    def needs_key(self, preset: str) -> bool:
        """Say no: the credential may stand in the options or the environment."""
        del preset
        return False

    def known_models(self, preset: str) -> Sequence[ModelInfo]:
        """List nothing: which models an account may call differs by region and account."""
        del preset
        return ()

    def counts_tokens_of(self, upstream: Upstream, model: str | None) -> bool:
        """Say whether Bedrock counts tokens for this model: it does for Claude."""
        return read_model(model or "", self._account_of(upstream).options.family).is_claude

    def find_face(self, method: str, endpoint: str) -> Face | None:
        """Name the face of an endpoint of Bedrock's own."""
        return find_raw_face(method, endpoint)

    # -- requests ------------------------------------------------------------------

    async def prepare(self, exchange: Exchange) -> None:
        """Fetch the images and documents that the request links to, if the upstream's option says so."""
        exchange.notes.pop(_NOTE, None)
        options = self._account(exchange).options
        if not options.fetch_images or exchange.face.raw:
            return
        if self._is_messages(exchange):
            body = await fetch_anthropic(exchange.body, allow_private=options.fetch_private)
            exchange.notes[_NOTE] = _Plan("messages", self._model(exchange), body=body)
        elif not _is_embeddings(exchange):
            request = translation.read_request(exchange, hub.ChatRequest)
            await fetch_hub(request, allow_private=options.fetch_private)

    def build_request(self, exchange: Exchange) -> Outgoing:
        """Make the signed request. Raises InvalidRequest, and NoActiveKey where nobody can sign."""
        if exchange.face.raw:
            exchange.notes.pop(_NOTE, None)
            _, mark, query = exchange.request.raw_path.partition("?")
            path = f"{exchange.params['endpoint']}{mark}{query}"
            return self._sign(exchange, exchange.request.method, path, exchange.body)
        model = self._model(exchange)
        if self._is_messages(exchange):
            return self._build_messages(exchange, model)
        if _is_embeddings(exchange):
            wanted = translation.read_request(exchange, hub.EmbeddingsRequest)
            body = write_embeddings(wanted, model)
            translation.refuse_dropped(exchange, wanted.dropped)
            exchange.notes[_NOTE] = _Plan("embeddings", model)
            return self._sign(exchange, "POST", f"model/{encode_id(model.id)}/invoke", body)
        request = translation.read_request(exchange, hub.ChatRequest)
        written = write_request(request, model)
        translation.refuse_dropped(exchange, request.dropped)
        if written.adjusted:
            exchange.response_headers[_ADJUSTED] = ", ".join(written.adjusted)
        exchange.notes[_NOTE] = _Plan("converse", model, written.json_tool, written.titles)
        operation = "converse-stream" if exchange.stream else "converse"
        return self._sign(exchange, "POST", f"model/{encode_id(model.id)}/{operation}", written.body)

    def revise_request(self, exchange: Exchange, head: ReplyHead, body: bytes) -> Outgoing | None:
        """Send a Messages request again without a member that Bedrock says it does not know, once."""
        plan, sent = exchange.notes.get(_NOTE), exchange.outgoing
        if head.status != 400 or sent is None or not isinstance(plan, _Plan) or plan.kind != "messages":
            return None
        if translation.is_strict(exchange):
            return None
        revised = find_refused_member(sent.body, body)
        if revised is None:
            return None
        path = sent.target.removeprefix(_candidate(exchange).upstream.base_path + "/")
        return self._sign(exchange, "POST", path, revised)

    def _build_messages(self, exchange: Exchange, model: Model) -> Outgoing:
        prepared = exchange.notes.get(_NOTE)
        body = prepared.body if isinstance(prepared, _Plan) else None
        if body is None:
            body = exchange.body
            for place, _ in find_links(body):
                raise InvalidRequest(
                    f"{place}: Bedrock takes nothing by its link; send it as base64, or have the gateway "
                    "fetch links with the upstream's option fetch_images.",
                    param=place,
                )
        options = self._account(exchange).options
        body, dropped = build_body(body, exchange.headers.get("anthropic-beta", ""), options.betas)
        translation.refuse_dropped(exchange, dropped)
        if exchange.face.endpoint.endswith("count_tokens"):
            exchange.notes[_NOTE] = _Plan("count", model)
            path = f"model/{encode_id(bare_id(model.id))}/count-tokens"
            return self._sign(exchange, "POST", path, write_count(body))
        exchange.notes[_NOTE] = _Plan("messages", model)
        operation = "invoke-with-response-stream" if exchange.stream else "invoke"
        return self._sign(exchange, "POST", f"model/{encode_id(model.id)}/{operation}", body)

    def _sign(self, exchange: Exchange, method: str, path: str, body: bytes) -> Outgoing:
        upstream = _candidate(exchange).upstream
        headers = {
            name: value
            for name, value in forward_request(exchange.headers).items()
            if not name.startswith(_NOT_SENT)
        }
        kind = "application/json"
        if exchange.face.raw:
            kind = exchange.headers.get("content-type", "" if method in {"GET", "HEAD"} else kind)
        else:
            headers.pop("accept", None)
        target = f"{upstream.base_path}/{path}"
        account = self._account(exchange)
        headers |= account.headers(_secret(exchange), method, upstream.authority, target, kind, body)
        return Outgoing(method, target, headers, body)

    # -- replies -------------------------------------------------------------------

    def read_refusal(self, exchange: Exchange, head: ReplyHead, body: bytes) -> UpstreamRefused:
        """Turn an error reply into the client's error; `x-amzn-errortype` says which it is."""
        name = head.headers.get("x-amzn-errortype", "").partition(":")[0].strip()
        name = name or _type_in(body)
        message = read_fault(Headers(), body) if body.lstrip()[:1] == b"{" else ""
        theirs = VendorError(message, name or None) if message else None
        status = status_of(name) if name else None
        return refuse(
            _candidate(exchange).upstream.name, head, body, _secret(exchange), status=status, theirs=theirs
        )

    def open_translator(self, exchange: Exchange, head: ReplyHead) -> Stage | None:
        """Give the stage that makes the client's dialect of the reply; None where it is that already."""
        plan = exchange.notes.get(_NOTE)
        if exchange.face.raw or not isinstance(plan, _Plan):
            return None
        kind = head.headers.get("content-type", "")
        is_framed, is_sse = kind.startswith(_EVENT_STREAM), kind.startswith(translation.SSE)
        if plan.kind == "messages":
            return open_messages(exchange, framed=is_framed) if is_framed or is_sse else None
        if plan.kind == "count":
            return open_count()
        side: Any = EmbeddingsSide(plan.model.id, head.headers)
        if plan.kind == "converse":
            side = ConverseSide(_context(plan, head), sse=is_sse)
        return translation.open_translation(exchange, side, streamed=is_framed or is_sse)

    def open_usage_tap(self, exchange: Exchange, head: ReplyHead) -> UsageTap | None:
        """Give the reader of a reply that passes untouched; None for endpoints not known here."""
        face = exchange.face
        side: Any = face.dialect.provider_side
        if face.opaque or (face.raw and face.dialect is INVOKE):
            side = InvokeSide(head.headers)
        elif face.raw and face.dialect is not CONVERSE:
            return None
        if side is None:
            return None
        is_framed = head.headers.get("content-type", "").startswith(_EVENT_STREAM)
        return EventTap(exchange, side.open_reader()) if is_framed else WholeTap(exchange, side.read_reply)

    # -- inside --------------------------------------------------------------------

    def _account(self, exchange: Exchange) -> Account:
        return self._account_of(_candidate(exchange).upstream)

    def _account_of(self, upstream: Upstream) -> Account:
        account = self._accounts.get(upstream)
        if account is None:
            account = self._accounts[upstream] = open_account(upstream, self._environment)
        return account

    def _model(self, exchange: Exchange) -> Model:
        return read_model(_candidate(exchange).model or "", self._account(exchange).options.family)

    def _is_messages(self, exchange: Exchange) -> bool:
        """Say whether the client speaks the model's own dialect."""
        face = exchange.face
        is_spoken = face.dialect.name == _MESSAGES or face.endpoint == "messages/count_tokens"
        return is_spoken and self._model(exchange).is_claude


def _address(region: str) -> str:
    ending = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://bedrock-runtime.{region}.{ending}"


def _candidate(exchange: Exchange) -> Candidate:
    if exchange.candidate is None:
        raise RuntimeError("an upstream must be chosen first")
    return exchange.candidate


def _secret(exchange: Exchange) -> str:
    return exchange.credential.value if exchange.credential is not None else ""


def _is_embeddings(exchange: Exchange) -> bool:
    return exchange.face.dialect.name.endswith("embeddings") or exchange.face.endpoint == "embeddings"


def _context(plan: _Plan, head: ReplyHead) -> Context:
    return Context(
        id=head.headers.get("x-amzn-requestid", ""),
        model=plan.model.id,
        reasoning_format=plan.model.reasoning_format,
        json_tool=plan.json_tool,
        titles=plan.titles,
    )


def _type_in(body: bytes) -> str:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""
    found = document.get("__type") if isinstance(document, dict) else None
    return found.rpartition("#")[2] if isinstance(found, str) else ""
