"""What the mock upstream was asked, and what it is told to answer.

Responsible for `Seen` and `ScriptedReply`; puts nothing on a socket (`server.py`) and knows no
vendor's answers (`vendor.py`) and no ways to misbehave (`faults.py`).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from itertools import accumulate, pairwise
from typing import Any, Literal, cast

import msgspec

__all__ = ["Framing", "Pieces", "ScriptedReply", "Seen"]

Framing = Literal["content-length", "chunked", "close", "raw"]
End = Literal["keep-alive", "close", "cut", "reset", "hang", "stale"]
Pieces = list[bytes | float]

_NOT_REPLAYED = re.compile(
    "connection|content-encoding|content-length|keep-alive|proxy-authenticate|proxy-authorization"
    "|te|trailer|transfer-encoding|upgrade",
    re.IGNORECASE,
)
_EVENT_BORDER = re.compile(rb"(?<=\n\n)|(?<=\n\r\n)")


class Seen(msgspec.Struct, kw_only=True):
    """One request as it came in, and how its connection fared. Times are Unix seconds.

    `raw` is the head and body exactly as sent, chunk framing included; `body` is decoded from
    it. `header_list` keeps order and case, `headers` has lower-case names and joins repeats.
    `complete` is False where the client left, or broke the protocol, before its end.
    `closed_early` says that the client closed before the reply ended; a half-close counts.
    `reply_status` and `ended_at` stay None as long as no head, or no end, was written.
    """

    connection: int
    received_at: float
    method: str = ""
    target: str = ""
    version: str = ""
    header_list: list[tuple[str, str]] = []
    headers: dict[str, str] = {}
    body: bytes = b""
    raw: bytes = b""
    complete: bool = True
    reply_status: int | None = None
    ended_at: float | None = None
    closed_early: bool = False
    closed_at: float | None = None

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def json(self) -> Any:
        """The decoded body; None where it is no JSON."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, RecursionError):
            return None

    @property
    def model(self) -> str:
        """The model asked for, in the body or (fx names only) in the path; "" where there is none."""
        payload = self.json
        if isinstance(payload, dict) and isinstance(payload.get("model"), str):
            return cast("str", payload["model"])
        found = re.search(r"/(fx-[^/:]+)", self.path)
        return found[1] if found else ""

    @property
    def key(self) -> str:
        """The credential that came with it, without `Bearer`; "" where there was none."""
        names = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
        return next((self.headers[n] for n in names if n in self.headers), "").removeprefix("Bearer ")


class ScriptedReply(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One answer, down to the bytes.

    `chunks` are written one at a time; a number among them is a pause in seconds. Without
    `chunks` the reply is `body`, in one write with its head. `repeat` starts `chunks` over for
    ever. Header values go out unchecked; a Content-Length or Transfer-Encoding among them
    replaces ours. `preface` goes out before the head (for 1xx responses).
    `framing`: default chunked if there are chunks, else content-length; "close" is ended by the
    end of the connection; "raw" writes no head and no framing at all.
    `end`: "keep-alive"; "close" finishes, then closes; "cut" closes without finishing; "reset"
    does so with a TCP RST; "hang" stays silent; "stale" drops the connection at its next request.
    """

    status: int = 200
    reason: str = "Scripted"
    headers: dict[str, str] | list[tuple[str, str]] = {}
    body: bytes = b""
    chunks: Pieces | None = None
    framing: Framing | None = None
    content_length: int | None = None
    delay_s: float = 0
    preface: bytes = b""
    repeat: bool = False
    end: End = "keep-alive"

    @classmethod
    def of_json(cls, value: object, **fields: Any) -> ScriptedReply:
        """Answer with a JSON body; `fields` are the others of the reply."""
        headers = [("Content-Type", "application/json"), *_pairs(fields.pop("headers", {}))]
        return cls(body=msgspec.json.encode(value), headers=headers, **fields)

    @classmethod
    def of_events(cls, payloads: Iterable[object], *, done: bool = True, **fields: Any) -> ScriptedReply:
        """Answer with one `data:` event, and one write, for each payload, and [DONE]."""
        chunks: Pieces = [b"data: %b\n\n" % msgspec.json.encode(payload) for payload in payloads]
        chunks += [b"data: [DONE]\n\n"] * done
        headers = [("Content-Type", "text/event-stream"), *_pairs(fields.pop("headers", {}))]
        return cls(chunks=chunks, headers=headers, **fields)

    @classmethod
    def from_recording(cls, recording: Mapping[str, Any], **fields: Any) -> ScriptedReply:
        """Replay `recording["response"]` with its recorded chunk sizes, else one event a write.

        `fields` override what the recording says. Left out are hop-by-hop headers and those of a framing
        or an encoding. Raises KeyError where there is no response or status.
        """
        response = recording["response"]
        body = _recorded_body(response)
        headers = [p for p in _pairs(response.get("headers") or {}) if not _NOT_REPLAYED.fullmatch(p[0])]
        fields = {"status": response["status"], "headers": headers, **fields}
        if sizes := response.get("chunk_sizes"):
            borders = [0, *accumulate(sizes), len(body)]
            return cls(chunks=[body[a:b] for a, b in pairwise(borders)], **fields)
        if any(n.lower() == "content-type" and v.startswith("text/event-stream") for n, v in headers):
            return cls(chunks=[piece for piece in _EVENT_BORDER.split(body) if piece], **fields)
        return cls(body=body, **fields)

    @classmethod
    def from_push(cls, value: dict[str, Any]) -> ScriptedReply:
        """Read the JSON of `POST /_script`: a recording, or the fields of a reply.

        There `body` is text or any JSON value (`body_b64` for bytes), and a chunk is text,
        a pause or {"b64": …}. Raises ValueError or KeyError where it is neither.
        """
        if "response" in value:
            return cls.from_recording(value)
        fields = {n: v for n, v in value.items() if n not in {"body", "body_b64"}}
        if fields.get("chunks") is not None:
            fields["chunks"] = [_pushed_chunk(chunk) for chunk in fields["chunks"]]
        if "preface" in fields:
            fields["preface"] = str(fields["preface"]).encode()
        return msgspec.convert({**fields, "body": _recorded_body(value)}, cls)

    @property
    def header_pairs(self) -> list[tuple[str, str]]:
        """The headers given, as a new list."""
        return _pairs(self.headers)

    @property
    def wire_framing(self) -> Framing:
        """The framing with its default filled in."""
        return self.framing or ("content-length" if self.chunks is None else "chunked")

    def head(self) -> bytes:
        """The status line and headers, to the empty line; nothing of it is checked."""
        pairs = self.header_pairs
        names = {name.lower() for name, _ in pairs}
        if self.wire_framing == "chunked" and "transfer-encoding" not in names:
            pairs.append(("Transfer-Encoding", "chunked"))
        bodiless = self.status in {204, 304}
        if self.wire_framing == "content-length" and "content-length" not in names and not bodiless:
            pairs.append(("Content-Length", str(self.length)))
        if self.end == "close":
            pairs.append(("Connection", "close"))
        lines = [f"HTTP/1.1 {self.status} {self.reason}", *(f"{name}: {value}" for name, value in pairs)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    @property
    def length(self) -> int:
        """The Content-Length it declares, in bytes."""
        return len(self.payload) if self.content_length is None else self.content_length

    @property
    def payload(self) -> bytes:
        """All the bytes of the body, once."""
        return (
            self.body
            if self.chunks is None
            else b"".join(chunk for chunk in self.chunks if isinstance(chunk, bytes))
        )


def _pairs(headers: Mapping[str, Any] | Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    if not isinstance(headers, Mapping):
        return [(name, value) for name, value in headers]
    many = {n: v if isinstance(v, list) else [v] for n, v in headers.items()}
    return [(name, value) for name, values in many.items() for value in values]


def _recorded_body(response: Mapping[str, Any]) -> bytes:
    if response.get("body_b64") is not None:
        return base64.b64decode(response["body_b64"])
    body = response.get("body")
    if body is None:
        return b""
    return body.encode() if isinstance(body, str) else msgspec.json.encode(body)


def _pushed_chunk(chunk: object) -> bytes | float:
    if isinstance(chunk, dict):
        return base64.b64decode(chunk["b64"])
    return chunk.encode() if isinstance(chunk, str) else float(cast("float", chunk))
