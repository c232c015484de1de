"""What a `/v1/{provider}/{endpoint}` request speaks, and what an endpoint takes that nobody knows.

The endpoint is judged percent-decoded; what goes up is what came, byte for byte.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

import msgspec

from .catalogue import may_call
from .errors import Forbidden, InvalidRequest, NotFound
from .exchange import Exchange, Principal
from .faces import Call, Face, read_nothing
from .holdings import holding_of
from .resources.resource import outranks
from .splice import scan

__all__ = ["find_raw_face"]

_EVERY = tuple(
    "chat:write embeddings:write images:write audio:write video:write files:read files:write".split()
)
_READS = frozenset({"GET", "HEAD", "POST"})  # a POST makes something, and does not change what is there
_PROXY_KEY = re.compile(r"rk_(?:live|test)_")  # the query goes up as it is, and no key of ours with it
_MAX_MODEL = 512  # characters
# A vendor's list of its models, which nothing of anybody's stands in; ids may have an owner before a slash.
_MODELS = re.compile(r"(?:v\d(?:beta\d?|alpha)?/)?models(?:/[\w.@-]+){0,2}|api/tags")


def find_raw_face(exchange: Exchange) -> Face:
    """Find what a `/v1/{provider}/{endpoint}` request speaks, and whom it addresses.

    An endpoint that the provider knows is judged like its face, with its scope. Any other, a known one
    in another spelling too, passes untouched, but only for a key that may do all that could be done there:
    one with every scope for providers (`_EVERY`) that may call every model of the upstream. PUT, PATCH and
    DELETE also take `admin:write`, as a vendor's administration does: they change the account, which must
    be the caller's (of who runs the gateway, or of an admin in the organisation that stored it). Where
    several organisations share an account, it is for who runs the gateway alone. A vendor's list of its
    models takes `models:read`.

    What such a request costs is for plugins to judge by `Face.opaque`: the meter holds and charges an
    estimate for the model that the body names, and refuses a POST that names none where anything bounds the
    caller's money.

    Raises NotFound, InvalidRequest, NoActiveKey, and Forbidden (`missing_scope`, `model_not_allowed`).
    """
    name = exchange.params["provider"]
    candidates = exchange.pipeline.catalogue.raw_upstreams(
        name, holding_of(exchange), brings_key="x-provider-key" in exchange.headers
    )
    if not candidates:
        if name in exchange.pipeline.catalogue.holdings.providers:
            raise NotFound(f"No upstream of the provider {name!r} is set up here.")
        hint = " The base URL ends in /v1: write that once." if name == "v1" else ""
        raise NotFound(f"There is no provider or upstream named {name!r}.{hint}")
    if _PROXY_KEY.search(exchange.request.raw_path):
        raise InvalidRequest(
            "A proxy key stands in the query; send it in the Authorization header.", param="query"
        )
    exchange.candidates = candidates
    method, endpoint = exchange.request.method, unquote(exchange.params["endpoint"])
    face = candidates[0].upstream.provider.find_face(method, endpoint)
    principal = exchange.principal
    assert principal is not None
    if face is None and method in {"GET", "HEAD"} and _MODELS.fullmatch(endpoint):
        if "models:read" not in principal.scopes:
            raise Forbidden("This key lacks the scope models:read.", code="missing_scope")
        _check_models(exchange, principal)
        return msgspec.structs.replace(
            exchange.face, scope="models:read", read_call=read_nothing, json_body=False
        )
    if face is None:
        _check_models(exchange, principal)
        face = msgspec.structs.replace(exchange.face, read_call=_read_opaque, json_body=False, opaque=True)
    if face.opaque:
        _check_scopes(principal, method)
        _check_shared(exchange, principal)
    is_administration = face.scope == "admin:write" or (face.opaque and method not in _READS)
    if is_administration and "admin:write" in principal.scopes:
        _check_account(exchange, principal)
    # Said here too: a provider that forgot would send the request by its model's name.
    return face if face.raw else msgspec.structs.replace(face, raw=True)


def _check_models(exchange: Exchange, principal: Principal) -> None:
    if not may_call(principal, None, exchange.candidates):
        name = exchange.params["provider"]
        raise Forbidden(
            "This key may call some models only, and the gateway does not know which model this endpoint "
            f"calls. Use one that it knows, such as /v1/chat/completions, or a key that may call {name}/*.",
            code="model_not_allowed",
            param="model",
        )


def _check_scopes(principal: Principal, method: str) -> None:
    needed = _EVERY if method in _READS else (*_EVERY, "admin:write")
    missing = [scope for scope in needed if scope not in principal.scopes]
    if missing:
        raise Forbidden(
            f"The gateway does not know what {method} does at this endpoint, so it takes a key with every "
            f"scope that it could need; this key lacks {', '.join(missing)}.",
            code="missing_scope",
        )


def _check_shared(exchange: Exchange, principal: Principal) -> None:
    """Refuse an endpoint that may list or hold what several organisations keep at one account."""
    if principal.is_operator or exchange.pipeline.organizations.count < 2:
        return
    if "x-provider-key" in exchange.headers:  # the account is the caller's own
        return
    if not all(candidate.upstream.is_stored for candidate in exchange.candidates):
        raise Forbidden(
            "Several organisations share this provider's account, and the gateway does not know what this "
            "endpoint shows of it. Use one that it knows, an account of the organisation's own (/providers), "
            "or X-Provider-Key."
        )


def _check_account(exchange: Exchange, principal: Principal) -> None:
    """Refuse who would change an account that is not theirs: an organisation's admin, the operator's."""
    is_own = all(candidate.upstream.is_stored for candidate in exchange.candidates)
    if not principal.is_operator and not (is_own and outranks(principal.role, "admin")):
        raise Forbidden(
            "This may change a provider's account: that takes who runs the gateway, or an admin of the "
            "organisation that the account belongs to."
        )


def _read_opaque(body: bytes) -> Call:
    """Judge what can be judged of a body that no face describes: a JSON object's model, if any."""
    if body.lstrip()[:1] != b"{":
        return Call()
    members = scan(body)
    span = members.get("model")
    model = msgspec.json.decode(body[slice(*span)]) if span else None
    if not isinstance(model, str) or not model:
        return Call(members=members)
    if len(model) > _MAX_MODEL or not model.isprintable():  # it goes into a reply header and the log
        raise InvalidRequest(
            f"model: give a name of at most {_MAX_MODEL} printable characters.", param="model"
        )
    return Call(model=model, members=members)
