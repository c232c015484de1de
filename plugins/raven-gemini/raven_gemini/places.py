"""Where a request goes and how it shows who it is: AI Studio with a key, Vertex AI with a token."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from raven_proxy.errors import NoActiveKey
from raven_proxy.exchange import Credential, Exchange, Outgoing
from raven_proxy.upstream import Upstream

from .identity import is_identity, read_identity
from .options import VertexOptions, read_options

__all__ = ["Place", "find_place", "full_name", "raw_target"]

_VERSION = "/v1beta1"  # of Vertex AI's API: the one with what the models can do of late
_VERSIONED = re.compile(r"v1(?:alpha|beta)?\d*/")
_VERSION_AT_END = re.compile(r"/v1(?:alpha|beta)?\d*\Z")
_SAFE = "-._~@"
_API_KEY = ("AIza", "AQ.")  # what an API key of Google's begins with
_CREDENTIALS = frozenset({"key", "access_token", "oauth_token"})


class Place(msgspec.Struct, frozen=True):
    """One of Google's doors. `base` is a path without a trailing slash; `project` is a path too."""

    base: str
    project: str
    headers: dict[str, str]
    is_vertex: bool = False

    def target(self, model: str, verb: str) -> str:
        """Give the path of a method of a model."""
        if not self.is_vertex:
            return f"{self.base}/{_quote(full_name(model))}:{verb}"
        return f"{self.base}/{self.project}/{_quote(_vertex_name(model))}:{verb}"


def find_place(upstream: Upstream, credential: Credential | None, token: str | None) -> Place:
    """Tell where `upstream` is. Raises NoActiveKey where Vertex AI's project is not known."""
    key = credential.value.strip() if credential is not None else ""
    if upstream.preset != "vertex":
        return Place(upstream.base_path, "", {"x-goog-api-key": key} if key else {})
    options = read_options(upstream.preset, upstream.options)
    assert isinstance(options, VertexOptions)
    sent = token or key
    headers = {"x-goog-api-key": sent} if sent.startswith(_API_KEY) else {"authorization": f"Bearer {sent}"}
    project = options.project or _project_of(key)
    if project is None:
        raise NoActiveKey(
            f'The upstream {upstream.name} names no project; set options = {{ project = "…" }} on it.'
        )
    path = f"projects/{quote(project, safe=':')}/locations/{options.location}"
    return Place(upstream.base_path or _VERSION, path, headers, is_vertex=True)


def full_name(model: str) -> str:
    """Give a model's name with its kind ("models/gemini-2.5-flash")."""
    return model if model.startswith(("models/", "tunedModels/")) else f"models/{model}"


def raw_target(exchange: Exchange, place: Place, headers: dict[str, str]) -> Outgoing:
    """Send a client's own request on: its body and query as they are, but for credentials in the query."""
    endpoint = exchange.params["endpoint"]
    base = place.base
    if _VERSIONED.match(endpoint):  # Google's clients put it behind any base URL
        base = _VERSION_AT_END.sub("", base)
    elif place.is_vertex and not endpoint.startswith("projects/"):
        base = f"{base}/{place.project}"
    _, mark, query = exchange.request.raw_path.partition("?")
    if query:
        query = _without_credentials(query)
        mark = "?" if query else ""
    return Outgoing(exchange.request.method, f"{base}/{endpoint}{mark}{query}", headers, exchange.body)


def _without_credentials(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    if not any(name in _CREDENTIALS for name, _ in pairs):
        return query
    return urlencode([(name, value) for name, value in pairs if name not in _CREDENTIALS])


def _vertex_name(model: str) -> str:
    if model.startswith(("publishers/", "endpoints/")):
        return model
    model = model.removeprefix("models/").removeprefix("google/")
    return f"publishers/google/models/{model}"


def _quote(name: str) -> str:
    """Quote a name whose first segments are kinds; `..` and empty segments cannot lead elsewhere."""
    segments = [segment for segment in name.split("/") if segment not in ("", ".", "..")]
    return "/".join(quote(segment, safe=_SAFE) for segment in segments)


def _project_of(key: str) -> str | None:
    if not is_identity(key):
        return None
    try:
        identity = read_identity(key)
    except ValueError:
        return None
    return identity.project_id or identity.quota_project_id
