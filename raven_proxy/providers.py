"""What upstreams speak: the protocol of a provider plugin, and the shapes it hands out.

A provider is mechanism, registered once under a name that `[[upstreams]] provider = "…"` uses.
It does no I/O: it builds bytes and reads bytes; the gateway sends them.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec

from .errors import ConfigError, UpstreamRefused
from .exchange import Exchange, Outgoing, ReplyHead, Usage
from .faces import Face, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .upstream import Upstream

__all__ = [
    "Addressing",
    "Checking",
    "Lending",
    "Listing",
    "ModelInfo",
    "Preparing",
    "Probing",
    "Provider",
    "Storable",
    "Tally",
    "UsageTap",
    "estimate_prompt",
    "estimate_tokens",
    "find_provider",
    "prompt_bound",
]

_BASE64 = re.compile(rb"[A-Za-z0-9+/=_-]+")
_RUN_BEFORE = re.compile(rb"[A-Za-z0-9+/=_-]+\Z")
_ATTACHMENT = 512  # bytes of base64 without a break: no text
# Looks at each 512th place, as far as none is where an attachment covers the next 512 bytes.
_PLAIN = re.compile(rb"(?s:(?![A-Za-z0-9+/=_-]{512}).{512})*+")
_TOKENS_OF_ATTACHMENT = 1600  # an image of a megapixel and a half


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A model that a provider offers: known without asking, or from the list it gave."""

    id: str
    created: int = 0  # Unix seconds
    owned_by: str = ""
    display_name: str = ""
    context_window: int | None = None  # tokens
    max_tokens: int | None = None  # of one answer


class Tally(msgspec.Struct):
    """What a usage tap made of a reply.

    `complete` is False when the dialect's own end was not seen (`[DONE]`, `message_stop`);
    `error` is the message of an error that the provider sent inside the reply. `usage` is what it
    reported, or an estimate marked as such; None where there is nothing to count.
    """

    usage: Usage | None = None
    finish_reason: str | None = None
    complete: bool = True
    error: str | None = None


class UsageTap(Protocol):
    """Reads a copy of a reply; whatever it raises is logged and never reaches the stream.

    One that also has `written() -> int` tells how many bytes of the model's words came so far: what a
    stream is billed by that nobody saw the end of.
    """

    def feed(self, data: bytes) -> None:
        """Look at the next bytes of the reply."""

    def close(self) -> Tally:
        """The reply ended, cleanly or not; say what was seen."""


class Provider(Protocol):
    """A vendor's API, as `register_providers` takes it. Whoever has the methods is one; a subclass gets the
    defaults that are named here. `examples/acme.py` is a whole one.

    `name` is what `[[upstreams]] provider` says, and `preset` is that or another name that it was registered
    under ("groq", "ollama", …): one object serves them all. It keeps nothing between calls.
    """

    name: str

    def base_url(self, preset: str) -> str | None:
        """Give the vendor's usual base URL, without a trailing slash; None (the default): each upstream
        says its own.
        """
        del preset
        return None

    def needs_key(self, preset: str) -> bool:
        """Say whether calling this vendor without a key is pointless (the default). Where it is,
        `exchange.credential` is there in all that follows; else it may be None.
        """
        del preset
        return True

    def known_models(self, preset: str) -> Sequence[ModelInfo]:
        """List models that are known without asking the vendor; by default none."""
        del preset
        return ()

    def find_face(self, method: str, endpoint: str) -> Face | None:
        """Name the face whose dialect an endpoint of the vendor's own API speaks, for `/v1/{provider}/…`.

        None (the default): nobody knows what it does, and it takes a key that may do everything.
        """
        del method, endpoint
        return None

    def build_request(self, exchange: Exchange) -> Outgoing:
        """Make the vendor's request from `exchange` for `exchange.candidate` and `.credential`.

        Its target begins with `candidate.upstream.base_path`; Host, lengths and codings are the gateway's.
        With `exchange.face.raw` the client speaks the vendor's own API: `params["endpoint"]`, the query and
        the body go up as they came. Otherwise the dialects match (`splice.put` changes the model and no
        other byte), or `translation.read_request` gives the request in the hub's shape. Which of the
        client's headers a vendor may see, `headers.forward_request` says; credentials are not among them.

        Raises InvalidRequest for what the vendor cannot take (always, or only under
        `X-Raven-Strict: true`).
        """

    def revise_request(self, exchange: Exchange, head: ReplyHead, body: bytes) -> Outgoing | None:
        """Given an error reply, return a request worth sending instead, once; None (the default) gives up."""
        del exchange, head, body
        return None

    def read_refusal(self, exchange: Exchange, head: ReplyHead, body: bytes) -> UpstreamRefused:
        """Turn an error reply (status ≥ 400) into the error that the client will see.

        `refusals.refuse` does so for most shapes of `body` (at most 256 KiB), without secrets.
        """

    def open_translator(self, exchange: Exchange, head: ReplyHead) -> Stage | None:
        """Give the stage that makes the client's dialect of the reply, most often
        `translation.open_translation`; None (the default) passes bytes untouched.
        """
        del exchange, head
        return None

    def open_usage_tap(self, exchange: Exchange, head: ReplyHead) -> UsageTap | None:
        """Give a reader of the provider's own bytes (`metering.EventTap`, `WholeTap`); None (the default)
        where there is nothing to meter, or a translation does it.
        """
        del exchange, head
        return None


@runtime_checkable
class Checking(Protocol):
    """What a provider offers besides, if upstreams have `options` of its own."""

    def check_options(self, preset: str, options: Mapping[str, Any]) -> None:
        """Judge one upstream's `options` at start. Raises ConfigError; `config.decode_table` words it."""


@runtime_checkable
class Addressing(Protocol):
    """What a provider offers besides, if an upstream's `options` tell where it is (a region)."""

    def find_address(self, preset: str, options: Mapping[str, Any]) -> str | None:
        """Give the base URL of an upstream without one; asked in the place of `base_url`."""


@runtime_checkable
class Preparing(Protocol):
    """What a provider offers besides, if it needs I/O before it can build a request."""

    async def prepare(self, exchange: Exchange) -> None:
        """Fetch what the request needs: an access token, an image that the vendor only takes as bytes.

        Called before each attempt, with `exchange.candidate` and `.credential` set. Raises GatewayError.
        """


@runtime_checkable
class Listing(Protocol):
    """What a provider offers besides, if its vendor lists its models."""

    def build_listing(self, upstream: Upstream, page: str | None) -> Outgoing | None:
        """Make the request for the list, or for its next `page`; None where this vendor has none."""

    def read_listing(self, upstream: Upstream, body: bytes) -> tuple[Sequence[ModelInfo], str | None]:
        """Read one page, and the word for the next; raises ValueError and the like for anything else."""


@runtime_checkable
class Probing(Protocol):
    """What a provider offers besides, if its vendor has a call that costs nothing and takes a key."""

    def build_probe(self, upstream: Upstream) -> Outgoing | None:
        """Make the request; None where this vendor has none. The first page of a `Listing` does too."""


@runtime_checkable
class Storable(Protocol):
    """What a provider offers besides, if organisations may set some of its options by the management API.

    Not those that name a secret, a file or an address: their word is not the operator's.
    """

    stored_options: frozenset[str]


@runtime_checkable
class Lending(Protocol):
    """What a provider offers besides, if the config's upstreams may use credentials of the gateway's own
    (those of its environment) in the place of a key. Organisations' upstreams may not.
    """

    lends_credentials: bool


def find_provider(known: Mapping[str, Provider], name: str) -> Provider:
    """Give a provider by its name or a preset's. Raises ConfigError with the nearest one."""
    provider = known.get(name)
    if provider is None:
        near = difflib.get_close_matches(name, known, n=1)
        rest = ", ".join(sorted(known)) or "none; no provider plugin is on"
        hint = f"did you mean {near[0]!r}?" if near else f"known: {rest}"
        raise ConfigError(f"provider {name!r} is unknown; {hint}")
    return provider


def estimate_tokens(size: int) -> int:
    """Estimate tokens from a length in bytes of text: four bytes a token, rounded up."""
    return -(-size // 4)


def estimate_prompt(body: bytes) -> int:
    """Estimate a request's tokens: a quarter of its bytes, images and files left out.

    Unbroken runs of 512 and more base64 characters count as attachments; those of a kilobyte and more are
    found for certain.
    """
    return estimate_tokens(_without_attachments(body)[0])


def prompt_bound(body: bytes) -> int:
    """Bound a request's tokens from above, as far as its bytes tell: a third of them, and 1,600 for each
    attachment, which is left out of the bytes.
    """
    size, text = len(body), _PLAIN.match(body)
    if text is not None and size - text.end() < _ATTACHMENT:  # most requests: there are none
        return -(-size // 3)
    rest, attachments = _without_attachments(body)
    return -(-rest // 3) + attachments * _TOKENS_OF_ATTACHMENT


def _without_attachments(body: bytes) -> tuple[int, int]:
    """Count the bytes that are no attachment, and the attachments.

    One of a kilobyte or more covers one of the places that are looked at, so that a long text costs next
    to nothing.
    """
    rest = size = len(body)
    attachments = 0
    text = _PLAIN.match(body)
    while text is not None and (place := text.end()) <= size - _ATTACHMENT:
        found = _BASE64.match(body, place)
        assert found is not None
        before = _RUN_BEFORE.search(body, max(0, place - _ATTACHMENT), place)
        attachments += 1
        rest -= found.end() - (before.start() if before is not None else place)
        text = _PLAIN.match(body, found.end())
    return rest, attachments
