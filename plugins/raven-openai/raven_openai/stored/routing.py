"""Where a request for stored things goes, and whether this key may make it.

`admit` is the gate: an id that another organisation owns, or nobody, is a 404 and no provider is
asked. `choose` then gives the one place. The plugin calls both; `own` serves whoever else keeps ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, urlencode

import msgspec

from raven_proxy.catalogue import may_call
from raven_proxy.errors import Forbidden, InvalidRequest, NoActiveKey, NotFound
from raven_proxy.exchange import Candidate, Exchange
from raven_proxy.holdings import visible_upstreams
from raven_proxy.upstream import Upstream

from .faces import BATCHES, FILES, UPLOADS, BatchCall
from .ownership import Ownership
from .places import Place, place_of

__all__ = ["NOTE", "Placed", "admit", "check_models", "choose", "own", "query_of"]

NOTE = "openai.stored"
"""The key in `exchange.notes` under which `Placed` stands."""

_DIALECTS = frozenset({FILES.name, UPLOADS.name, BATCHES.name})
_PROVIDERS = frozenset({"openai", "azure"})
_HOLDERS = frozenset(
    "openai azure alibaba doubleword groq mistral moonshot nebius novita siliconflow together xai zai".split()
)
"""Presets whose vendors keep files."""
_CURSORS = ("after", "before")
_LIMITS = {"file": (10_000, 10_000), "batch": (20, 100)}  # how many OpenAI lists unasked, and at most


class Placed(msgspec.Struct):
    """What became of a request at the gate. `owned` are the ids that a list may show; None elsewhere.

    `limit` is how many a list shows, where the vendor is asked for more; `after` is where it begins then.
    """

    place: Place
    method: str
    organization_id: str
    candidates: tuple[Candidate, ...]
    owned: frozenset[str] | None = None
    limit: int | None = None
    after: str | None = None


async def admit(exchange: Exchange, ownership: Ownership) -> None:
    """Check the owner and fix the place of a request for files, uploads or batches; others pass.

    Raises NotFound, Forbidden, InvalidRequest, or NoActiveKey where the place is gone from the config.
    """
    if exchange.face.dialect.name not in _DIALECTS:
        return
    place = place_of(exchange)
    principal = exchange.principal
    if place is None or principal is None:  # no face of ours says so
        raise NotFound("There is nothing at this path.")
    upstream = await _find_upstream(exchange, ownership, place)
    check_models(exchange, upstream)
    method = "GET" if exchange.request.method == "HEAD" else exchange.request.method
    candidates = (Candidate(upstream, None),)
    placed = Placed(place, method, principal.organization_id, candidates)
    if method == "GET" and not place.id:
        query = exchange.request.query
        for name in _CURSORS:
            if query.get(name):
                await own(exchange, ownership, place.kind, query[name], param=name)
        placed.owned = await ownership.ids_of(place.kind, upstream.name, principal.organization_id)
        placed.limit = _limit(exchange, place, upstream)
        placed.after = query.get("after")
        if placed.limit is not None and place.kind == "batch":  # a page of them is short, and they all stay
            owner = upstream.name, principal.organization_id
            placed.after = await ownership.cursor_to(place.kind, *owner, placed.after) or placed.after
    exchange.notes[NOTE] = placed
    exchange.candidates = candidates  # also for plugins that order candidates themselves


def choose(exchange: Exchange) -> Sequence[Candidate] | None:
    """Give the place that `admit` fixed; None for requests of other kinds."""
    placed = exchange.notes.get(NOTE)
    return placed.candidates if isinstance(placed, Placed) else None


async def own(
    exchange: Exchange, ownership: Ownership, kind: str, id: str, *, param: str | None = None
) -> Upstream:
    """Give the upstream that holds an object of the caller's organisation.

    Raises NotFound where another organisation owns it, or nobody is known to, or, on a raw path, where
    it lies elsewhere; NoActiveKey where its upstream is gone from the config.
    """
    owner = await ownership.owner_of(kind, id)
    principal = exchange.principal
    if owner is None or principal is None or owner[1] != principal.organization_id:
        raise NotFound(f"There is no {kind} {id[:128]!r} for this key.", param=param)
    if exchange.face.raw and all(owner[0] != found.upstream.name for found in exchange.candidates):
        raise NotFound(f"There is no {kind} {id[:128]!r} here.", param=param)
    upstream = visible_upstreams(exchange).get(owner[0])
    if upstream is None:
        raise NoActiveKey(f"The upstream {owner[0]} that holds this {kind} is no longer configured.")
    return upstream


def check_models(exchange: Exchange, upstream: Upstream) -> None:
    """Refuse a key that may not call every model of `upstream`: a batch can name any (403)."""
    principal = exchange.principal
    if principal is None or may_call(principal, None, (Candidate(upstream, None),)):
        return
    raise Forbidden(
        f"This key is limited to some models; what is stored at {upstream.name} takes one that may call all "
        "of them.",
        code="model_not_allowed",
    )


def query_of(exchange: Exchange, placed: Placed) -> str:
    """Give the query for the vendor, with its question mark: the client's, without what is the gateway's."""
    query = exchange.request.raw_path.partition("?")[2]
    if not query or (placed.limit is None and "provider=" not in query):
        pairs = []
    else:
        pairs = [
            (name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name != "provider"
        ]
        query = urlencode(pairs)
    if placed.limit is not None:
        pairs = [(name, value) for name, value in pairs if name not in {"limit", "after"}]
        pairs += [("after", placed.after)] if placed.after else []
        query = urlencode([*pairs, ("limit", str(_LIMITS[placed.place.kind][1]))])
    return f"?{query}" if query else ""


async def _find_upstream(exchange: Exchange, ownership: Ownership, place: Place) -> Upstream:
    if place.id:
        return await own(exchange, ownership, place.kind, place.id)
    call = exchange.call
    holder = None
    if isinstance(call, BatchCall) and call.input_file_id:
        holder = await own(exchange, ownership, "file", call.input_file_id, param="input_file_id")
    if exchange.face.raw:
        return holder or exchange.candidates[0].upstream
    named = _named(exchange)
    if named is not None and holder is not None and named is not holder:
        raise InvalidRequest(
            f"input_file_id: this file lies at {holder.name}; a batch runs where its file is.",
            param="input_file_id",
        )
    return holder or named or _usual(visible_upstreams(exchange))


def _named(exchange: Exchange) -> Upstream | None:
    """Find the upstream that the client named, by its own name or its provider's."""
    by_header = exchange.headers.get("x-raven-upstream", "").strip()
    name = by_header or exchange.request.query.get("provider", "")
    if not name:
        return None
    param = "X-Raven-Upstream" if by_header else "provider"
    upstreams = visible_upstreams(exchange)
    found = upstreams.get(name) or next((u for u in upstreams.values() if name in (u.label, u.preset)), None)
    if found is None or found.provider.name not in _PROVIDERS:
        ours = ", ".join(u.label for u in upstreams.values() if u.provider.name in _PROVIDERS) or "none"
        raise InvalidRequest(
            f"{param}: {name[:128]!r} is no upstream that keeps files here; choose one of: {ours}.",
            param=param,
        )
    return found


def _usual(upstreams: Mapping[str, Upstream]) -> Upstream:
    ours = [u for u in upstreams.values() if u.provider.name in _PROVIDERS and not u.implicit]
    keeping = [u for u in ours if u.preset in _HOLDERS]
    if not ours:
        raise InvalidRequest("No upstream here keeps files; set one up that speaks OpenAI's API.")
    return (keeping or ours)[0]


def _limit(exchange: Exchange, place: Place, upstream: Upstream) -> int | None:
    """Say how many a list shows, if the vendor is to be asked for as many as it gives.

    Others' entries are taken out of the page: one that was short already could come out empty.
    """
    if exchange.face.raw or place.kind not in _LIMITS or upstream.preset not in _PROVIDERS:
        return None
    usual, most = _LIMITS[place.kind]
    text = exchange.request.query.get("limit", str(usual))
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and 1 <= int(text) <= most):
        return None  # the vendor has a word for it
    return int(text)
