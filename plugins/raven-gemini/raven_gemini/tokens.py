"""Access tokens for Vertex AI: asked for once, kept until shortly before they expire, never logged.

However many requests wait, one asks. A token that is still good is used when a new one cannot be had. Keys
that clients bring themselves are used for their request and not kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable

from raven_proxy import fetcher
from raven_proxy.errors import NoActiveKey, UpstreamError
from raven_proxy.exchange import Credential

from .identity import GOOGLE_TOKENS, Token, is_identity, read_identity, read_token, write_token_request

__all__ = ["TokenSource"]

_EARLY_S = 300.0  # a request may take as long as that before Google looks at its token
_TIMEOUT_S = 20.0
_MAX_BYTES = 64 * 1024


class _Kept:
    __slots__ = ("expires_at", "lock", "token")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.token = ""
        self.expires_at = 0.0


class TokenSource:
    """The tokens of one gateway's upstreams. `clock` gives Unix seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._kept: dict[tuple[str, str], _Kept] = {}  # one for each key of the config

    async def get(self, upstream: str, credential: Credential, token_uri: str | None) -> str:
        """Give the access token for a key: the key itself, if it is one already.

        Raises NoActiveKey (503) for a key that cannot be read, UpstreamError (502) where no token is had.
        """
        key = credential.value.strip()
        if not is_identity(key):
            return key
        if credential.source == "byok":
            return (await self._ask(upstream, key, token_uri)).access_token
        name = (hashlib.sha256(key.encode()).hexdigest(), token_uri or "")
        kept = self._kept.setdefault(name, _Kept())
        if self._clock() < kept.expires_at - _EARLY_S:
            return kept.token
        async with kept.lock:
            if self._clock() < kept.expires_at - _EARLY_S:
                return kept.token  # another request got it meanwhile
            try:
                token = await self._ask(upstream, key, token_uri)
            except UpstreamError:
                if self._clock() < kept.expires_at:
                    return kept.token
                raise
            kept.token, kept.expires_at = token.access_token, self._clock() + token.expires_in
            return kept.token

    async def _ask(self, upstream: str, key: str, token_uri: str | None) -> Token:
        # The address in the key's JSON is not used: whoever wrote the key must not choose whom we ask.
        uri = token_uri or GOOGLE_TOKENS
        try:
            body = write_token_request(read_identity(key), uri, self._clock())
        except ValueError as error:
            raise NoActiveKey(f"The key of the upstream {upstream} cannot be used: {error}.") from None
        reply = await fetcher.send(
            "POST",
            uri,
            headers={"content-type": "application/x-www-form-urlencoded"},
            body=body,
            max_bytes=_MAX_BYTES,
            timeout_s=_TIMEOUT_S,
            allow_private=token_uri is not None,  # what the config file says is trusted
        )
        if reply.status != 200:
            raise UpstreamError(
                f"Google gave no access token for the upstream {upstream}: its answer was {reply.status}."
            )
        try:
            return read_token(reply.body)
        except ValueError as error:
            raise UpstreamError(
                f"Google gave no access token for the upstream {upstream}: {error}."
            ) from None
