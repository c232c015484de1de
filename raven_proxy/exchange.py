"""One request and everything that became of it.

An `Exchange` is what hooks take. Its fields are listed in the order in which the
gateway fills them; a hook may rely on everything above its own stage. The gateway
alone writes them, except where a field's comment invites plugins to.
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from .faces import NO_CALL, UNROUTED, Call, Face

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from aiohttp.web import BaseRequest

    from .errors import GatewayError
    from .pipeline import Pipeline
    from .upstream import Upstream

__all__ = [
    "Attempt",
    "Candidate",
    "Credential",
    "Exchange",
    "Outcome",
    "Outgoing",
    "Principal",
    "Reply",
    "ReplyHead",
    "Usage",
]


class Outcome(StrEnum):
    """How an exchange ended; exactly one per exchange."""

    COMPLETED = "completed"  # the whole reply went out
    REPLAYED = "replayed"  # a gate gave a reply of before; nobody was asked, nothing was produced
    REFUSED = "refused"  # a gate or the gateway said no; no provider produced anything
    UPSTREAM_ERROR = "upstream_error"  # the provider failed before the reply's first byte
    TRUNCATED = "truncated"  # the reply broke off after its first byte
    CANCELLED = "cancelled"  # the client left
    FAILED = "failed"  # a plugin or the gateway itself broke


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who is calling, as an `authenticate` hook found out.

    `key_id` names the key in logs, limits and bills; it is no secret. `scopes` are those of the README ("Keys
    and scopes"), none by default: `frozenset({"chat:write", "models:read"})` may chat. `allowed_models` are
    glob patterns over the name as the client wrote it and over `upstream/model`; None allows every model.
    `on_disconnect` says what becomes of a stream whose client has left: "cancel" stops the provider, "drain"
    reads on for its usage. `role` ("viewer", "developer", "admin", "owner") is what a member may do in the
    organisation; a key's scopes bound it further. `is_operator` is who runs the gateway: every organisation
    is theirs. `attributes` are for other plugins: `member_id`, `rate_multiplier` (a Decimal), `plan`, …
    """

    key_id: str
    organization_id: str = "org_default"
    name: str = ""
    scopes: frozenset[str] = frozenset()
    allowed_models: tuple[str, ...] | None = None
    on_disconnect: str = "cancel"
    role: str = "admin"
    is_operator: bool = False
    attributes: Mapping[str, Any] = msgspec.field(default_factory=dict)


class Usage(msgspec.Struct, kw_only=True):
    """Tokens and units of one exchange. Cached and reasoning tokens are *parts* of their totals.

    `estimated` marks figures that were counted here because the provider gave none.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0  # the part of `cache_write_tokens` that is kept for an hour
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    images: int = 0
    seconds: float = 0.0
    web_searches: int = 0  # that the vendor's own tool made, and bills beside the tokens
    estimated: bool = False


class Candidate(msgspec.Struct, frozen=True):
    """One place a request may go: an upstream, and the model's name there (None on raw paths)."""

    upstream: Upstream
    model: str | None


class Credential(msgspec.Struct, frozen=True):
    """A provider key for one attempt. Its value is masked wherever it is printed, and in what the provider
    answers. `source` says where it is from ("config", "byok"), for logs and plugins.
    """

    value: str
    source: str = "config"

    def __repr__(self) -> str:
        return f"Credential(source={self.source!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("source", self.source)]


class Outgoing(msgspec.Struct):
    """The request as it will be sent upstream; `before_send` hooks edit `headers`.

    `target` is path and query, already encoded. Header names are lower case; names and values
    with control characters are refused when the request is written.
    """

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class ReplyHead(msgspec.Struct):
    """Status line and headers of a provider's reply. Names are lower case, duplicates joined."""

    status: int
    headers: dict[str, str]


class Reply(msgspec.Struct):
    """A reply that no upstream gave: from an `answer` hook, a route, or an error.

    `headers` may be in any case; what frames the message is the gateway's to write. `body` is the whole
    reply, or an async iterator of its pieces: each is sent as it comes, within `idle_timeout_s` and
    `total_timeout_s`, and an async generator is closed when it is over, also because the client has left.

        Reply(200, {"Content-Type": "application/json"}, msgspec.json.encode({"ok": True}))
    """

    status: int = 200
    headers: dict[str, str] = {}
    body: bytes | AsyncIterator[bytes] = b""


class Attempt(msgspec.Struct):
    """One try at one candidate, kept for metering and logs. `status` is None if none arrived."""

    upstream: str
    provider: str
    model: str | None
    status: int | None = None
    error: str | None = None
    reused_connection: bool = False


class Exchange(msgspec.Struct, eq=False):
    """One request from accept to finish."""

    # On arrival.
    request: BaseRequest
    pipeline: Pipeline  # the snapshot this exchange lives and dies with
    id: str  # "req_…", ours; the client's own is in headers["x-request-id"]
    # Seconds; only differences mean anything.
    started_at: float = msgspec.field(default_factory=time.perf_counter)
    face: Face = UNROUTED
    params: dict[str, str] = {}  # what the route's path matched
    # Lower-case names; duplicates joined or refused. A gate may take out what no provider should see.
    headers: dict[str, str] = {}
    client_address: str = ""  # after `trusted_proxies`
    principal: Principal | None = None  # after `authenticate`
    # After the body was read and judged. Plugins change it with `replace_body`.
    body: bytes = b""
    call: Call = NO_CALL
    candidates: tuple[Candidate, ...] = ()  # what the model's name resolves to
    # Per attempt.
    candidate: Candidate | None = None
    credential: Credential | None = None
    outgoing: Outgoing | None = None
    secrets: tuple[bytes, ...] = ()  # what was sent as authorization: `mask`
    attempts: list[Attempt] = []
    hub_request: Any = None  # the request in the hub's shape, where it had to be translated
    # At the reply's headers. Plugins may add to `response_headers` until then.
    head: ReplyHead | None = None
    content_type: str = ""  # of what stages see and the client gets; a translator may have changed it
    collects: bool = False  # a plugin sets it by `open_stage`: nothing goes out before `check_reply`
    first_byte_at: float = 0.0  # same clock as `started_at`; 0.0 while nothing came
    response_headers: dict[str, str] = {}
    reply_body: bytes | None = None  # a whole reply, for `check_reply`; None for streams
    reply_headers: dict[str, str] = {}  # as the client gets them, once the head is written
    # At the end.
    status: int = 0  # the status the client saw; 499 if it left before one
    usage: Usage | None = None
    cost_nano: int | None = None  # nano-dollars, once it is settled; None where no price is known
    finish_reason: str | None = None
    produced_bytes: int = 0  # reply bytes that came from the provider
    written: Callable[[], int] | None = None  # counts the bytes of the model's words that came
    outcome: Outcome = Outcome.FAILED
    is_complete: bool = False  # the provider's stream came to its end, with a client or without
    is_settled: bool = False  # `settle_exchange` hooks were told
    error: GatewayError | None = None
    notes: dict[str, Any] = {}  # a plugin's own data, under its own name

    def __repr__(self) -> str:
        return f"Exchange({self.id})"  # its fields hold keys and prompts

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("id", self.id)]  # a traceback with local variables is written by this one

    @property
    def model(self) -> str | None:
        """The model as the client wrote it; None where the request names none."""
        return self.call.model

    @property
    def stream(self) -> bool:
        """Whether the client asked for a stream."""
        return self.call.stream

    def replace_body(self, body: bytes) -> None:
        """Put another body in the place of the client's and judge it anew.

        For `check_request` hooks (redaction, defaults). What is judged is what is sent:
        the face reads the new body and the gateway resolves its model again.

        Raises InvalidRequest if the face cannot read the new body.
        """
        self.call = self.face.read_call(body)
        self.body = body

    def elapsed_ms(self) -> float:
        """Milliseconds since the request arrived."""
        return (time.perf_counter() - self.started_at) * 1000.0
