"""Which face serves a path: exact paths by dict, `{name}` paths by a walk, the rest raw.

The path is judged exactly as it came and is never normalised: what authentication judged is what
runs. Anything that two readers could understand differently is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from .errors import ConfigError, GatewayError, InvalidRequest, NotFound
from .faces import Face, read_nothing

__all__ = ["RESERVED", "Routes", "check_path"]

_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9_~!$&'()*+,=:@-]+(?:\.[A-Za-z0-9_~!$&'()*+,=:@.-]+)*)+|/")
_SAFE_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,=:@/-]|%[0-9A-Fa-f]{2})*")
_AMBIGUOUS = re.compile(r"//|/\.{1,2}(?:/|$)|%(?:2[eEfF]|5[cC]|00|25)")

RESERVED = frozenset(
    "chat responses messages completions embeddings moderations rerank images audio video files batches "
    "models usage requests uploads".split()
)
"""First path segments under /v1 that are faces, now or later: no upstream may take them."""

_RAW_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")
_RAW = Face(name="raw", path="/v1/{provider}/{endpoint:path}", methods=_RAW_METHODS,
            scope="chat:write", read_call=read_nothing, raw=True)  # fmt: skip


class _Template(msgspec.Struct, frozen=True):
    pattern: re.Pattern[str]
    faces: dict[str, Face]


class Routes:
    """An immutable table of faces. `/api/v1/…` is the same as `/v1/…`."""

    def __init__(self, faces: Iterable[Face]) -> None:
        self.faces = tuple(faces)
        self._exact: dict[str, dict[str, Face]] = {}
        self._templates: dict[str, _Template] = {}
        for face in self.faces:
            for path in _aliases(face.path):
                table = self._table(path)
                for method in face.methods:
                    if method in table:
                        raise ConfigError(
                            f"two faces serve {method} {path}: {table[method].name} and {face.name}"
                        )
                    table[method] = face

    def find(self, method: str, path: str) -> tuple[Face, dict[str, str]]:
        """Find the face for a checked path, and what its `{name}` segments matched.

        Raises NotFound, or GatewayError 405 with `Allow`.
        """
        table = self._exact.get(path)
        if table is not None:
            return _pick(table, method), {}
        for template in self._templates.values():
            match = template.pattern.fullmatch(path)
            if match is not None:
                return _pick(template.faces, method), match.groupdict()
        trimmed = path.removeprefix("/api")
        version, _, rest = trimmed[1:].partition("/")
        provider, _, endpoint = rest.partition("/")
        if version == "v1" and provider and endpoint and provider not in RESERVED:
            if method not in _RAW_METHODS:
                raise _method_not_allowed(_RAW_METHODS)
            return _RAW, {"provider": provider, "endpoint": endpoint}
        raise NotFound(self._guide(path))

    def _guide(self, path: str) -> str:
        """Say that nothing is there, and where to go: to who opens the gateway's address in a browser, and
        to whose client has a base URL without /v1, or with a slash at its end.
        """
        if path == "/":
            page = "/docs" if "/docs" in self._exact else "/openapi.json"
            return f"This is Raven Proxy. Its API is described at {page}; clients use the base URL /v1."
        plain = path.rstrip("/")
        near = next((one for one in (plain, f"/v1{plain}", f"{plain}s") if one in self._exact), None)
        return f"There is nothing at {path}." + (f" Did you mean {near}?" if near else "")

    def _table(self, path: str) -> dict[str, Face]:
        if "{" not in path:
            return self._exact.setdefault(path, {})
        if path not in self._templates:
            self._templates[path] = _Template(_compile(path), {})
        return self._templates[path].faces


def check_path(target: str) -> str:
    """Return the path of a request target, or refuse it (400).

    Only origin-form (RFC 9112 section 3.2.1) is served; empty and dot segments, encoded slashes,
    dots, backslashes, NUL and `;` are refused. One encoded slash is meant: in `/v1/models/{id}`.
    """
    path, _, _ = target.partition("?")
    if _PLAIN_PATH.fullmatch(path):
        return path
    judged = path
    if path.startswith(("/v1/models/", "/api/v1/models/")):
        judged = re.sub("%2[fF]", "-", path)
    if not _SAFE_PATH.fullmatch(judged) or _AMBIGUOUS.search(judged):
        why = ': write single slashes, not "//"' if "//" in path else ""
        raise InvalidRequest(f"The request path is ambiguous or not in plain form{why}.")
    return path


def _aliases(path: str) -> tuple[str, ...]:
    return (path, "/api" + path) if path.startswith("/v1/") else (path,)


def _compile(path: str) -> re.Pattern[str]:
    pattern = re.sub(r"\\\{(\w+):path\\\}", r"(?P<\1>.+)", re.escape(path))
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", pattern))


def _pick(table: dict[str, Face], method: str) -> Face:
    face = table.get(method)
    if face is None and method == "HEAD":
        face = table.get("GET")
    if face is None:
        raise _method_not_allowed(tuple(table))
    return face


def _method_not_allowed(methods: tuple[str, ...]) -> GatewayError:
    allowed = ", ".join(sorted(methods))
    return GatewayError(f"Use {allowed} here.", status=405, headers={"Allow": allowed})
