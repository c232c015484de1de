"""The provider `azure`: OpenAI's API as Microsoft serves it, with URLs and a key header of its own.

Its preset `azure_foundry` is the older surface of Azure AI Foundry, which many vendors' models share.

Everything else is `provider`'s: it builds and reads as for any vendor, and what it built is addressed
anew here. Sources: Microsoft Learn, "Azure OpenAI REST API reference" and "API version lifecycle".

    base_url                                 options.api_version     a chat goes to
    https://RES.openai.azure.com             none                    /openai/v1/chat/completions
    https://RES.openai.azure.com             "preview" or "latest"   the same with ?api-version=…
    https://RES.openai.azure.com             "2024-10-21"            /openai/deployments/MODEL/chat/…?…
    https://RES.services.ai.azure.com/models "2024-05-01-preview"    /models/chat/completions?api-version=…
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote

import msgspec
from msgspec import Meta

from raven_proxy import splice
from raven_proxy.config import decode_table
from raven_proxy.errors import InvalidRequest, UpstreamRefused
from raven_proxy.exchange import Exchange, Outgoing, ReplyHead
from raven_proxy.faces import Call, Face, Stage
from raven_proxy.providers import ModelInfo, UsageTap
from raven_proxy.refusals import read_error, refuse
from raven_proxy.upstream import Upstream

from . import traits
from .presets import Preset
from .provider import OpenAIProvider
from .registry import find_raw_face

__all__ = ["AzureProvider", "Options"]

_FOUNDRY = "azure_foundry"
_LACKS = frozenset({"openai.moderations"})
_ROWS = {
    "azure": Preset(
        finish_words=None, lacks=_LACKS, serves=frozenset({"openai.responses"}), chat=traits.OPENAI
    ),
    _FOUNDRY: Preset(lacks=_LACKS | {"openai.completions"}, chat=traits.OPENAI),
}
_FOUNDRY_VERSION = "2024-05-01-preview"  # the one version that this surface has
_UNDATED = frozenset({"preview", "latest", "v1"})  # versions of /openai/v1 itself
_DEPLOYED = frozenset({"chat", "completions", "embeddings", "images", "audio"})
_RAW_PATH = re.compile(
    r"(?:openai/)?(?:deployments/([^/]+)/|v1/|models/(?=chat/|embeddings))?(.+)", re.IGNORECASE
)


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`options` of an upstream. `auth` is the header that carries the key; "bearer" takes an Entra token.

    With `api = "responses"` every chat goes to `responses` instead.
    """

    api_version: Annotated[str, Meta(pattern=r"^[A-Za-z0-9.-]{1,32}$")] | None = None
    auth: Literal["api-key", "bearer"] = "api-key"
    api: Literal["chat", "responses"] = "chat"


class AzureProvider:
    """Azure OpenAI, and the models of Azure AI Foundry."""

    name = "azure"
    presets = (_FOUNDRY,)
    stored_options = frozenset(Options.__struct_fields__)

    def __init__(self) -> None:
        self._inner = OpenAIProvider(_ROWS)

    def base_url(self, preset: str) -> str | None:
        """Give None: each resource has an address of its own."""
        del preset
        return None

    def needs_key(self, preset: str) -> bool:
        """Say that a key is needed."""
        del preset
        return True

    def known_models(self, preset: str) -> Sequence[ModelInfo]:
        """List nothing: models are the customer's own deployments."""
        del preset
        return ()

    def check_options(self, preset: str, options: Mapping[str, Any]) -> None:
        """Judge an upstream's `options`. Raises ConfigError with the nearest known key."""
        del preset
        decode_table(dict(options), Options, "options")

    def build_probe(self, upstream: Upstream) -> Outgoing | None:
        """Ask for the list of models; the older surface has none."""
        if upstream.preset == _FOUNDRY or upstream.base_path.endswith("/models"):
            return None
        key = upstream.credential.value if upstream.credential is not None else ""
        with_token = upstream.options.get("auth", "api-key") == "bearer"
        headers = {"authorization": f"Bearer {key}"} if with_token else {"api-key": key}
        return Outgoing("GET", _address(upstream, None, f"{upstream.base_path}/models"), headers, b"")

    def find_face(self, method: str, endpoint: str) -> Face | None:
        """Name the face whose dialect this endpoint speaks, under any of Azure's prefixes."""
        match = _RAW_PATH.fullmatch(unquote(endpoint).strip("/"))
        face = find_raw_face(method, match[2]) if match is not None else None
        if face is None or match is None or match[1] is None or not face.needs_model:
            return face
        return msgspec.structs.replace(face, read_call=_DeployedCall(face, match[1]))

    def build_request(self, exchange: Exchange) -> Outgoing:
        """Make the vendor's request. A raw face sends the client's body, path and query as they are."""
        outgoing = self._inner.build_request(exchange)
        upstream = _upstream(exchange)
        if upstream.options.get("auth", "api-key") == "api-key":
            outgoing.headers.pop("authorization", None)
            if exchange.credential is not None and exchange.credential.value:
                outgoing.headers["api-key"] = exchange.credential.value
        if not exchange.face.raw:
            model = exchange.candidate.model if exchange.candidate is not None else None
            outgoing.target = _address(upstream, model, outgoing.target)
        return outgoing

    def revise_request(self, exchange: Exchange, head: ReplyHead, body: bytes) -> Outgoing | None:
        """Send a stream request again without `stream_options`: old versions of the API refuse it."""
        return self._inner.revise_request(exchange, head, body)

    def read_refusal(self, exchange: Exchange, head: ReplyHead, body: bytes) -> UpstreamRefused:
        """Turn an error reply into the error that the client will see; see `refusals`."""
        secret = exchange.credential.value if exchange.credential is not None else ""
        theirs = read_error(body)
        if theirs.code == "DeploymentNotFound":
            theirs.param = theirs.param or "model"
        return refuse(_upstream(exchange).name, _with_wait(head), body, secret, theirs=theirs)

    def open_translator(self, exchange: Exchange, head: ReplyHead) -> Stage | None:
        """Give the stage that the reply needs; None passes bytes untouched."""
        return self._inner.open_translator(exchange, head)

    def open_usage_tap(self, exchange: Exchange, head: ReplyHead) -> UsageTap | None:
        """Give a reader of the reply; None for endpoints whose dialect is not known here."""
        return self._inner.open_usage_tap(exchange, head)


class _DeployedCall:
    """Reads the body of a request to a deployment: the path names the model, whatever the body says."""

    def __init__(self, face: Face, deployment: str) -> None:
        self._read = face.read_call
        self._deployment = deployment
        self._is_json = face.json_body

    def __call__(self, body: bytes) -> Call:
        try:
            call = self._read(body)
        except InvalidRequest as error:
            if error.param != "model":
                raise
            call = self._read_without_model(body)
        call.model = self._deployment
        return call

    def _read_without_model(self, body: bytes) -> Call:
        if not self._is_json:
            return Call()
        members = splice.scan(body)
        call = self._read(splice.put(body, members, "model", self._deployment))
        call.members = members
        return call


def _address(upstream: Upstream, model: str | None, target: str) -> str:
    """Give the path and query of an endpoint that was built under the base URL."""
    base: str = upstream.base_path
    version: str | None = upstream.options.get("api_version")
    path, _, query = target[len(base) + 1 :].partition("?")
    if base.endswith("/models") or upstream.preset == _FOUNDRY:
        base, version = f"{base.removesuffix('/models')}/models/", version or _FOUNDRY_VERSION
    elif base.endswith("/v1"):
        base = f"{base}/"
    else:
        base = f"{base.removesuffix('/openai')}/openai/"
        if version is None or version in _UNDATED:
            base += "v1/"
        elif model is not None and path.partition("/")[0] in _DEPLOYED:
            base += f"deployments/{quote(model, safe='')}/"
    queries = [query] if query else []
    if version is not None and version != "v1":
        queries.append(f"api-version={version}")
    return base + path + ("?" + "&".join(queries) if queries else "")


def _with_wait(head: ReplyHead) -> ReplyHead:
    """Give a wait that is said in milliseconds alone in whole seconds too."""
    wait = head.headers.get("retry-after-ms", "")
    if "retry-after" in head.headers or not wait.isdecimal() or len(wait) > 9:
        return head
    return ReplyHead(head.status, {**head.headers, "retry-after": str(math.ceil(int(wait) / 1000))})


def _upstream(exchange: Exchange) -> Any:
    if exchange.candidate is None:
        raise RuntimeError("an upstream must be chosen first")
    return exchange.candidate.upstream
