"""Where requests go: one configured provider account, its connections, and how to reach it.

Responsible for reuse, caps, name resolution, TLS and the address guard. Which upstream is
used, and whether to try another, is the gateway's affair.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from time import monotonic
from urllib.parse import SplitResult, urlsplit

import aiohappyeyeballs
import msgspec
import structlog

from .addresses import is_public
from .config import UpstreamConfig
from .connection import UpstreamConnection
from .errors import ConfigError, NoActiveKey, Overloaded, UpstreamError, UpstreamTimeout
from .exchange import Credential, Outgoing
from .headers import write_head
from .providers import Addressing, ModelInfo, Preparing, Provider

__all__ = ["Describe", "Upstream", "find_address", "open_tls"]

_log = structlog.get_logger("raven_proxy.upstream")

# Providers close idle connections after 60 s and more; leave before they do.
_MAX_IDLE_S = 50.0
_MAX_DESCRIBED = 4096
_LAST_SECOND = 253_402_300_799  # of the year 9999

Describe = Callable[[str, str], ModelInfo | None]
"""What `hookspecs.register_models` registers."""


class Upstream:
    """A provider account as the config names it, with its pool of connections.

    `preset` is the provider's name that the config used; `provider` the plugin object behind it. `name` is
    unique on a gateway and never changes; `label` is what people call it. One that `is_stored` is some
    organisation's own (`holdings`): what it says is not the operator's word.
    """

    def __init__(
        self,
        config: UpstreamConfig,
        provider: Provider,
        *,
        allow_private: bool,
        implicit: bool = False,
        describers: tuple[Describe, ...] = (),
        label: str = "",
        credential: Credential | None = None,
        tls: ssl.SSLContext | None = None,
        is_stored: bool = False,
    ) -> None:
        parts, host, port = _locate(config, provider)
        self.name = config.name
        self.label = label or config.name
        self.is_stored = is_stored
        self.preset = config.provider
        self.provider = provider
        self.prepare = provider.prepare if isinstance(provider, Preparing) else None
        self.implicit = implicit  # there without config: a plugin's own
        self.region = config.region
        self.models = config.models
        self.listed: tuple[ModelInfo, ...] = ()  # what the vendor said it offers; see `discovery`
        self._describers = describers
        self._described: dict[str, ModelInfo] = {}
        self.options = config.options
        self.credential = Credential(config.key.reveal()) if config.key is not None else credential
        self.base_path = parts.path.rstrip("/")
        self.is_tls = parts.scheme == "https"
        self.host = host
        self.port = port or (443 if self.is_tls else 80)
        self.authority = parts.netloc
        self.max_connections = config.max_connections
        self.open_connections = 0
        self._allow_private = allow_private
        self._tls = (tls or _tls_context(config)) if self.is_tls else None
        self._idle: list[UpstreamConnection] = []
        self._closed = False
        self._withdrawn = False

    def __repr__(self) -> str:
        return f"Upstream({self.name!r})"

    def offers(self, model: str) -> bool:
        """Say whether the config lists `model` here (`models = […]` patterns)."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)

    def lists(self, model: str) -> bool:
        """Say whether the vendor is known to have `model`."""
        return any(info.id == model for info in (*self.provider.known_models(self.preset), *self.listed))

    def describe(self, model: str) -> ModelInfo:
        """Give what is known of `model` here: by the vendor's own list, then by the catalogues.

        Figures that nobody knows are None. Answers are kept until the vendor lists its models anew.
        """
        found = self._described.get(model)
        if found is None:
            found = self._describe(model)
            if len(self._described) < _MAX_DESCRIBED:  # names come from clients: bounded
                self._described[model] = found
        return found

    def learn(self, models: Iterable[ModelInfo]) -> None:
        """Keep the vendor's list of its models, without figures that make no sense."""
        self.listed = tuple(map(_plausible, models))
        self._described = {}

    def _describe(self, model: str) -> ModelInfo:
        known = (
            info for info in (*self.listed, *self.provider.known_models(self.preset)) if info.id == model
        )
        told = (self._ask(describe, model) for describe in self._describers)
        sources = [info for info in (*known, *told) if info is not None]
        return ModelInfo(
            id=model,
            created=next((info.created for info in sources if info.created), 0),
            owned_by=next((info.owned_by for info in sources if info.owned_by), self.preset),
            display_name=next((info.display_name for info in sources if info.display_name), ""),
            context_window=next((info.context_window for info in sources if info.context_window), None),
            max_tokens=next((info.max_tokens for info in sources if info.max_tokens), None),
        )

    def write_request(self, outgoing: Outgoing) -> bytes:
        """Write the head of `outgoing` for this upstream. Raises InvalidRequest on control characters."""
        headers = {"host": self.authority, **outgoing.headers, "accept-encoding": "identity"}
        if outgoing.body or outgoing.method in {"POST", "PUT", "PATCH"}:
            headers["content-length"] = str(len(outgoing.body))
        return write_head(f"{outgoing.method} {outgoing.target} HTTP/1.1", headers)

    def _ask(self, describe: Describe, model: str) -> ModelInfo | None:
        try:
            return describe(self.preset, model)
        except Exception as error:  # a catalogue that is broken is no reason to refuse a request
            _log.error("a model could not be described", upstream=self.name, model=model, exc_info=error)
            return None

    async def acquire(self, connect_timeout_s: float, *, fresh: bool = False) -> UpstreamConnection:
        """Give an idle connection, or open one; never waits for another exchange to end.

        Raises Overloaded (503) at `max_connections`, NoActiveKey (503) if it was withdrawn, UpstreamTimeout,
        or UpstreamError.
        """
        if self._withdrawn:
            raise NoActiveKey(f"The provider {self.label} was switched off.")
        now = monotonic()
        while self._idle and not fresh:
            connection = self._idle.pop()
            transport = connection.transport
            if transport is None or transport.is_closing():
                continue
            if now - connection.idle_since < _MAX_IDLE_S:
                return connection
            transport.close()
        if self.max_connections and self.open_connections >= self.max_connections:
            raise Overloaded(f"The upstream {self.label} is at its connection limit.")
        self.open_connections += 1
        try:
            async with asyncio.timeout(connect_timeout_s):
                return await self._connect()
        except BaseException as error:
            self.open_connections -= 1
            if isinstance(error, TimeoutError):
                raise UpstreamTimeout(
                    f"The upstream {self.label} did not accept a connection in time."
                ) from None
            if isinstance(error, OSError | ssl.SSLError | UnicodeError):  # of a name that can be none
                _log.warning("upstream could not be reached", upstream=self.name, reason=str(error))
                raise UpstreamError(f"The upstream {self.label} could not be reached.") from error
            raise

    def close(self) -> None:
        """Take no connection back any more; those in use close when their exchange ends."""
        self._closed = True
        for connection in self._idle:
            if connection.transport is not None:
                connection.transport.close()
        self._idle = []

    def withdraw(self) -> None:
        """Close, and let no request begin here any more, also of those that chose it before."""
        self._withdrawn = True
        self.close()

    async def _connect(self) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        if not self._allow_private:
            # Judged after the name was resolved, so that a name cannot change its mind in between.
            infos = [info for info in infos if is_public(str(info[4][0]))]
            if not infos:
                raise UpstreamError(f"The upstream {self.label} has no public address.")
        sock = await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=0.25, loop=loop)
        connection = UpstreamConnection(loop, self._keep, self._forget)
        try:
            await loop.create_connection(
                lambda: connection,
                sock=sock,
                ssl=self._tls,
                server_hostname=self.host if self._tls else None,
            )
        except BaseException:
            connection.disown()  # a connection may be made and cancelled in one turn of the loop
            sock.close()
            raise
        return connection

    def _keep(self, connection: UpstreamConnection) -> None:
        if self._closed:
            if connection.transport is not None:
                connection.transport.close()
            return
        connection.idle_since = now = monotonic()
        self._idle.append(connection)
        oldest = self._idle[0]  # the last one is taken first: those of a burst that is over lie below
        if now - oldest.idle_since > _MAX_IDLE_S:
            del self._idle[0]
            if oldest.transport is not None:
                oldest.transport.close()

    def _forget(self, connection: UpstreamConnection) -> None:
        self.open_connections -= 1
        if connection in self._idle:
            self._idle.remove(connection)


def _plausible(info: ModelInfo) -> ModelInfo:
    """Leave out a time after the year 9999 (some vendors count milliseconds) and more tokens than a double
    counts: no list could be written with them.
    """
    return msgspec.structs.replace(
        info,
        created=info.created if 0 <= info.created <= _LAST_SECOND else 0,
        context_window=_tokens(info.context_window),
        max_tokens=_tokens(info.max_tokens),
    )


def _tokens(number: int | None) -> int | None:
    return number if number is None or 0 < number <= 2**53 else None


def find_address(provider: Provider, config: UpstreamConfig) -> str | None:
    """Give the URL of an upstream: its own, else its provider's usual one. Raises ConfigError."""
    if config.base_url:
        return config.base_url
    if isinstance(provider, Addressing):
        return provider.find_address(config.provider, config.options)
    return provider.base_url(config.provider)


def open_tls(ca_file: str | None) -> ssl.SSLContext:
    """Trust the system's certificate authorities, or those of a file. Raises OSError."""
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _locate(config: UpstreamConfig, provider: Provider) -> tuple[SplitResult, str, int | None]:
    """Find where an upstream is. Raises ConfigError."""
    url = find_address(provider, config)
    if url is None:
        raise ConfigError(
            f"upstream {config.name!r}: provider {config.provider!r} has no usual address; set base_url"
        )
    parts, port = _split(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(f"upstream {config.name!r}: base_url {url!r} is not an http(s) URL")
    if parts.query or parts.fragment or parts.username is not None:
        raise ConfigError(f"upstream {config.name!r}: base_url may hold no user, query or fragment")
    return parts, parts.hostname, port


def _split(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        return parts, parts.port
    except ValueError:  # an impossible port, or half an IPv6 address
        return urlsplit(""), None


def _tls_context(config: UpstreamConfig) -> ssl.SSLContext:
    try:
        return open_tls(config.ca_file)
    except OSError as error:
        raise ConfigError(f"upstream {config.name!r}: ca_file: {error.strerror or error}") from error
