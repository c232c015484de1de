"""The pages and their files: read once, sent with headers that let them load nothing but each other."""

from __future__ import annotations

import html
from importlib import resources
from string import Template

from openapi_ui_bundles import swagger_ui

from raven_proxy import Exchange, Face, Reply, read_nothing
from raven_proxy.faces import Doc

__all__ = ["SNIPPETS", "faces", "read_snippet"]

SNIPPETS = {
    "curl": ("curl.sh", "sh"),
    "Python": ("openai_client.py", "python"),
    "Node": ("openai_client.mjs", "js"),
    "LangChain": ("langchain_client.py", "python"),
}
"""What the quickstart shows, in its order: a heading, its file and its language."""

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_STRICT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Swagger UI sets styles on its elements.
_SWAGGER = _STRICT.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
_KEPT_S = 300  # by browsers
_HTML = "text/html; charset=utf-8"
_SCRIPT = "text/javascript; charset=utf-8"
_STYLE = "text/css; charset=utf-8"


def faces(*, public: bool) -> list[Face]:
    """List the routes of the pages."""
    page = Doc(summary="Swagger UI", tag="documentation", media="text/html")
    quickstart = Doc(summary="The first request, in four languages", tag="documentation", media="text/html")
    vendor = swagger_ui.static_path
    return [
        _face("/docs", _read("swagger.html"), _HTML, _SWAGGER, public=public, doc=page),
        _face("/docs/swagger.js", _read("swagger.js"), _SCRIPT, _STRICT, public=public),
        _face(
            "/docs/swagger-ui.js",
            (vendor / "swagger-ui-bundle.js").read_bytes(),
            _SCRIPT,
            _STRICT,
            public=public,
        ),
        _face(
            "/docs/swagger-ui.css", (vendor / "swagger-ui.css").read_bytes(), _STYLE, _STRICT, public=public
        ),
        _face("/docs/quickstart", _quickstart(), _HTML, _STRICT, public=public, doc=quickstart),
        _face("/docs/quickstart.js", _read("quickstart.js"), _SCRIPT, _STRICT, public=public),
        _face("/docs/quickstart.css", _read("quickstart.css"), _STYLE, _STRICT, public=public),
    ]


def read_snippet(name: str) -> str:
    """Give the text of one of `SNIPPETS`."""
    return resources.files(__package__).joinpath("snippets", SNIPPETS[name][0]).read_text(encoding="utf-8")


def _face(path: str, body: bytes, media: str, policy: str, *, public: bool, doc: Doc | None = None) -> Face:
    age = f"{'public' if public else 'private'}, max-age={_KEPT_S}"
    headers = _HEADERS | {"Content-Type": media, "Content-Security-Policy": policy, "Cache-Control": age}

    async def serve(exchange: Exchange) -> Reply:
        del exchange
        return Reply(headers=dict(headers), body=body)

    return Face(
        name=path[1:].replace("/", "-"), path=path, methods=("GET",), read_call=read_nothing, serve=serve,
        json_body=False, public=public, scope=None if public else "models:read",
        doc=doc or Doc(summary="A file of a page", tag="documentation", media=media.partition(";")[0]),
    )  # fmt: skip


def _quickstart() -> bytes:
    sections = [
        f'<section><h2 id="{name.lower()}">{name}</h2>'
        f'<pre tabindex="0"><code class="{language}">{html.escape(read_snippet(name).strip())}</code></pre>'
        "</section>"
        for name, (_, language) in SNIPPETS.items()
    ]
    return Template(_read("quickstart.html").decode()).substitute(sections="\n".join(sections)).encode()


def _read(name: str) -> bytes:
    return resources.files(__package__).joinpath(name).read_bytes()
