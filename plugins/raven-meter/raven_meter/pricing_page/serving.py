"""The routes of the page, and the headers that keep it from running or loading anything but its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import resources

import msgspec

from raven_meter.catalogue import load_packaged
from raven_meter.catalogue.operator import OperatorModel
from raven_proxy import Exchange, Face, Reply, read_nothing
from raven_proxy.faces import Doc

from .rows import build

__all__ = ["faces"]

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_FILES = {
    "/docs/pricing": ("page.html", "text/html; charset=utf-8"),
    "/docs/pricing.css": ("page.css", "text/css; charset=utf-8"),
    "/docs/pricing.js": ("page.js", "text/javascript; charset=utf-8"),
}
_KEPT_S = 300  # by browsers


def faces(own: Callable[[], Mapping[str, OperatorModel]], *, public: bool) -> list[Face]:
    """List the routes; `own` gives the operator's models once the plugin has started.

    Without `public` they take a key with `models:read`, like the list of models.
    """
    age = f"{'public' if public else 'private'}, max-age={_KEPT_S}"
    document: list[bytes] = []

    def route(path: str, content_type: str, read: Callable[[], bytes]) -> Face:
        headers = _HEADERS | {"Content-Type": content_type, "Cache-Control": age}

        async def serve(exchange: Exchange) -> Reply:
            del exchange
            return Reply(headers=dict(headers), body=read())

        return Face(
            name=path.removeprefix("/docs/"), path=path, methods=("GET",), read_call=read_nothing,
            serve=serve, json_body=False, public=public, scope=None if public else "models:read",
            doc=Doc(summary="Models and prices", tag="documentation", media=content_type.partition(";")[0]),
        )  # fmt: skip

    def read_document() -> bytes:
        if not document:  # 20 ms, once; prices that change by the day are those of the last start
            document.append(_encode(own()))
        return document[0]

    pages = [route(path, kind, _reader(name)) for path, (name, kind) in _FILES.items()]
    return [*pages, route("/docs/pricing.json", "application/json", read_document)]


def _reader(name: str) -> Callable[[], bytes]:
    data = resources.files(__package__).joinpath(name).read_bytes()
    return lambda: data


def _encode(own: Mapping[str, OperatorModel]) -> bytes:
    packaged = load_packaged()
    file = packaged.file
    head = {"generated": file.generated, "source": file.source, "licence": file.licence}
    return msgspec.json.encode({**head, "rows": build(packaged, own, datetime.now(UTC))})
