"""What a reply's bytes pass through: decoder → mask → usage tap (a copy) → translator and plugin stages.

Synchronous and decided once, at the reply's headers. Bytes that a failing stage did not pass never
go out; a failing tap is dropped and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import structlog

from .encoding import Inflater, open_decoder
from .errors import PLUGIN_FAULTS, GatewayError, PluginFailed
from .exchange import Exchange, ReplyHead
from .mask import Mask
from .metering import OpaqueTap
from .providers import Provider, Tally, UsageTap
from .translation import SSE, Translation

__all__ = ["Chain", "NamedStage", "open_chain"]

_log = structlog.get_logger("raven_proxy.chain")


class NamedStage:
    """A stage with the plugin that opened it, for the log when it fails."""

    __slots__ = ("close", "feed", "plugin")

    def __init__(self, plugin: str, feed: Callable[[bytes], bytes], close: Callable[[], bytes]) -> None:
        self.plugin = plugin
        self.feed = feed
        self.close = close


class Chain:
    """Decoder, mask, tap and stages of one reply."""

    __slots__ = ("_decoder", "_exchange", "_mask", "_stages", "_tap", "content_type", "is_translated")

    def __init__(
        self,
        exchange: Exchange,
        decoder: Inflater | None,
        tap: UsageTap | None,
        stages: tuple[NamedStage, ...],
        content_type: str = "",
        *,
        is_translated: bool = False,
        mask: Mask | None = None,
    ) -> None:
        self.content_type = content_type  # of the bytes that come out
        self.is_translated = is_translated
        self._exchange = exchange
        self._decoder = decoder
        self._mask = mask
        self._tap = tap
        self._stages = stages

    @property
    def is_metered(self) -> bool:
        """Whether somebody watches for the dialect's own end."""
        return self._tap is not None and type(self._tap) is not OpaqueTap

    def feed(self, data: bytes) -> bytes:
        """Pass the provider's bytes through. Raises GatewayError; a stage fails closed."""
        if self._decoder is not None:
            data = self._decoder.feed(data)
        if self._mask is not None:
            data = self._mask.feed(data)
        self._watch(data)
        for stage in self._stages:
            if not data:
                break
            data = self._run(stage, data)
        return data

    def close(self) -> bytes:
        """The reply is complete: collect what stages held back, in order."""
        if self._decoder is not None:
            self._decoder.close()
        carry = b""
        if self._mask is not None and (carry := self._mask.close()):
            self._watch(carry)
        for stage in self._stages:
            carry = (self._run(stage, carry) if carry else b"") + self._run(stage, None)
        return carry

    def settle(self) -> Tally:
        """Ask the tap what it saw and note it in the exchange; safe to call once, at any moment."""
        tap, self._tap = self._tap, None
        tally = Tally()
        if tap is not None:
            try:
                tally = tap.close()
            except Exception as error:
                self._drop_tap(error)
        exchange = self._exchange
        exchange.written = None
        exchange.usage = tally.usage or exchange.usage
        exchange.finish_reason = tally.finish_reason or exchange.finish_reason
        return tally

    def _watch(self, data: bytes) -> None:
        self._exchange.produced_bytes += len(data)
        if self._tap is not None:
            try:
                self._tap.feed(data)
            except Exception as error:
                self._drop_tap(error)

    def _run(self, stage: NamedStage, data: bytes | None) -> bytes:
        try:
            result = stage.close() if data is None else stage.feed(data)
            if isinstance(result, bytes):
                return result
            raise TypeError(f"a stage gives bytes, not {type(result).__name__}")
        except GatewayError:
            raise
        except PLUGIN_FAULTS as error:
            _log.error("stage failed", plugin=stage.plugin, request_id=self._exchange.id, exc_info=error)
            raise PluginFailed(stage.plugin, "open_stage") from error

    def _drop_tap(self, error: Exception) -> None:
        self._tap = None
        _log.error("usage tap failed", request_id=self._exchange.id, exc_info=error)


def open_chain(exchange: Exchange, head: ReplyHead, *, from_provider: bool) -> Chain:
    """Ask the provider and every plugin, once, who takes part in this reply.

    Raises GatewayError: a plugin that cannot open its stage fails closed.
    """
    stages: list[NamedStage] = []
    tap: UsageTap | None = None
    decoder = None
    content_type = head.headers.get("content-type", "")
    if not content_type and exchange.stream:
        content_type = SSE  # some forget to say so
    is_translated = False
    candidate = exchange.candidate
    if candidate is not None:
        provider = candidate.upstream.provider
        if from_provider:
            decoder = open_decoder(head.headers.get("content-encoding"))
            translator = provider.open_translator(exchange, head)
            if translator is not None:
                stages.append(NamedStage(candidate.upstream.preset, translator.feed, translator.close))
            if isinstance(translator, Translation):
                tap, content_type, is_translated = translator.tap, translator.content_type, True
        try:
            tap = tap or _open_tap(exchange, head, provider)
        except Exception as error:  # metering never stands in the way of a reply
            _log.error("usage tap failed", request_id=exchange.id, exc_info=error)
    exchange.content_type = content_type
    stages += _open_plugins_stages(exchange)
    exchange.written = getattr(tap, "written", None)
    mask = Mask(exchange.secrets) if from_provider and exchange.secrets else None
    return Chain(exchange, decoder, tap, tuple(stages), content_type, is_translated=is_translated, mask=mask)


def _open_plugins_stages(exchange: Exchange) -> Iterator[NamedStage]:
    for opener in exchange.pipeline.open_stage:
        try:
            stage = opener.function(exchange)
        except GatewayError:
            raise
        except PLUGIN_FAULTS as error:
            _log.error(
                "plugin failed",
                plugin=opener.plugin,
                hook="open_stage",
                request_id=exchange.id,
                exc_info=error,
            )
            raise PluginFailed(opener.plugin, "open_stage") from error
        if stage is not None:
            yield NamedStage(opener.plugin, stage.feed, stage.close)


def _open_tap(exchange: Exchange, head: ReplyHead, provider: Provider) -> UsageTap | None:
    if not exchange.face.opaque:
        return provider.open_usage_tap(exchange, head)
    if exchange.model is None:
        return None
    tap = provider.open_usage_tap(exchange, head)
    return OpaqueTap(tap) if tap is not None else None
