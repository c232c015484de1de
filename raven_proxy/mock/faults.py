"""The ways in which the mock upstream misbehaves, chosen by model names with the prefix `fx-`.

Responsible for the table below; each fault takes the answer that the mock would give
(`vendor.py`) and spoils it, so it fits whole replies and streams alike. Where only a
stream can show it, a whole reply stays as it is. "Cut" is 3 chunks of a stream, or half of a
whole body. Faults of content (fx-bytes, fx-huge, fx-no-usage) are made by the vendor's answer.

    model name               what the mock does
    fx-400 … fx-599          that status with a JSON error; 401 echoes the key, 429 says retry-after: 1
    fx-html-502              502 with an HTML page
    fx-204                   204 and no body
    fx-redirect-URL          307 to URL; fx-redirect-302-URL for another status
    fx-refuse-stream-options 400 that names stream_options if the body has it; fine without
    fx-slow-SECONDS          waits before the head
    fx-paced-MS              waits before each chunk
    fx-silent                accepts, never answers
    fx-stall                 cut, then silence
    fx-endless               a stream that never ends, a chunk a millisecond
    fx-close                 closes before any byte
    fx-reset                 TCP reset before any byte
    fx-reset-mid             cut, then TCP reset
    fx-short                 Content-Length 100 over the body, then close
    fx-chunk-cut             chunked, cut, closed without the last chunk
    fx-stale                 answers and keeps alive; closes unanswered at the connection's next request
    fx-connection-close      answers with Connection: close
    fx-extra-bytes           answers, then bytes that belong to no reply
    fx-close-delimited       no length: the end of the connection ends the body
    fx-close-delimited-no-done  the same, and no [DONE]
    fx-no-done               a chunked stream that ends well, without [DONE]
    fx-no-usage              no usage, though asked
    fx-error-event           3 chunks, data: {"error": …}, close; a whole reply is 200 with an error body
    fx-bad-json              an event (or a body) that is no JSON
    fx-bytes                 你好🙂, one byte a write
    fx-crlf                  lines end in CRLF
    fx-cr                    lines end in CR
    fx-mixed-ends            LF, CRLF and CR in turn, each event's last byte in a write of its own
    fx-comments              comments, event:, id: and retry: lines
    fx-huge                  one data line of 3 MiB
    fx-gzip                  gzip, whatever was asked
    fx-gzip-cut              gzip that breaks off, framed as if whole
    fx-bad-header            byte 0x01 in a header's value
    fx-big-header            a header of 20 KB
    fx-hop-headers           hop-by-hop headers, cookies, Server, Alt-Svc and an echo of credentials
    fx-1xx                   100 and 103 before the reply
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable

from msgspec.structs import replace

from .scripts import Pieces, ScriptedReply, Seen

__all__ = ["error_reply", "fault_table", "misbehave"]

Fault = Callable[[ScriptedReply, Seen], ScriptedReply]

_MESSAGES = {
    400: ("invalid_request_error", None, "The request is malformed"),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided: {key}."),
    403: ("permission_error", "unsupported_country", "Country, region, or territory not supported"),
    404: ("invalid_request_error", "model_not_found", "The model `{model}` does not exist"),
    429: ("rate_limit_error", "rate_limit_exceeded", "Rate limit reached for {model}"),
    503: ("server_error", "overloaded", "The engine is currently overloaded"),
}
_SERVER_ERROR = ("server_error", None, "The server had an error while processing your request")
_LINE_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\r\n\n", b"\r\n\r")
_NOTHING: dict[str, object] = {"framing": "raw", "chunks": []}
_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
# Faults that are a different value of one or two fields.
_FIELDS: dict[str, dict[str, object]] = {
    "1xx": {"preface": b"HTTP/1.1 100 Continue\r\n\r\n" + _HINTS},
    "204": {"status": 204, "reason": "No Content", "headers": {}, "body": b"", "chunks": None},
    "close": {**_NOTHING, "end": "cut"},
    "close-delimited": {"framing": "close"},
    "connection-close": {"end": "close"},
    "reset": {**_NOTHING, "end": "reset"},
    "silent": {**_NOTHING, "end": "hang"},
    "stale": {"end": "stale"},
}


def misbehave(model: str, seen: Seen, usual: ScriptedReply) -> ScriptedReply:
    """Return the answer to `seen` that the fault named by `model` makes of the `usual` one.

    A name that is not in the table gets a 404 that says so.
    """
    name = model.removeprefix("fx-")
    if name in _FIELDS:
        return replace(usual, **_FIELDS[name])
    if name in _FAULTS:
        return _FAULTS[name](usual, seen)
    if name in {"huge", "no-usage"}:
        return usual
    for pattern, parametrised in _PARAMETRISED:
        if found := pattern.fullmatch(name):
            return parametrised(usual, seen, found)
    return error_reply(404, f"No such fault: {model}")


def error_reply(
    status: int, message: str, *, param: str | None = None, code: str | None = None
) -> ScriptedReply:
    """Build an error in OpenAI's envelope; its type follows from the status."""
    kind = _MESSAGES.get(status, _SERVER_ERROR if status >= 500 else _MESSAGES[400])[0]
    error = {"message": message, "type": kind, "param": param, "code": code}
    return ScriptedReply.of_json({"error": error}, status=status, reason="Error")


def fault_table() -> str:
    """Return the table of model names, for people."""
    return (__doc__ or "").partition("vendor's answer.\n\n")[2]


def _status(_usual: ScriptedReply, seen: Seen, found: re.Match[str]) -> ScriptedReply:
    status = int(found[0])
    _, code, message = _MESSAGES.get(status, _SERVER_ERROR if status >= 500 else _MESSAGES[400])
    reply = error_reply(status, message.format(key=seen.key, model=seen.model), code=code)
    return _with_headers(reply, ("Retry-After", "1")) if status == 429 else reply


def _redirect(_: ScriptedReply, __: Seen, found: re.Match[str]) -> ScriptedReply:
    return ScriptedReply(status=int(found[1] or 307), reason="Moved", headers=[("Location", found[2])])


def _slow(usual: ScriptedReply, _: Seen, found: re.Match[str]) -> ScriptedReply:
    return replace(usual, delay_s=float(found[1]))


def _paced(usual: ScriptedReply, _: Seen, found: re.Match[str]) -> ScriptedReply:
    pause_s = float(found[1]) / 1000
    chunks = usual.chunks if usual.chunks is not None else _slices(usual.body, 10)
    paced: Pieces = [piece for chunk in chunks for piece in (pause_s, chunk)]
    return replace(usual, chunks=paced, framing=usual.wire_framing)


def _cut(usual: ScriptedReply) -> ScriptedReply:
    """The answer's beginning, framed as if the rest were to follow."""
    if usual.chunks is not None:
        return replace(usual, chunks=usual.chunks[:3], end="cut")
    half = usual.body[: len(usual.body) // 2]
    return replace(usual, body=half, content_length=len(usual.body), end="cut")


def _short(usual: ScriptedReply, _: Seen) -> ScriptedReply:
    return replace(usual, framing="content-length", content_length=usual.length + 100, end="cut")


def _endless(usual: ScriptedReply, _: Seen) -> ScriptedReply:
    chunk = b" " * 1024 if usual.chunks is None else usual.chunks[1]
    return replace(usual, chunks=[chunk, 0.001], repeat=True)


def _extra_bytes(usual: ScriptedReply, _: Seen) -> ScriptedReply:
    sized = replace(usual, framing="content-length")
    surplus = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"
    return ScriptedReply(framing="raw", chunks=[sized.head() + sized.payload + surplus])


def _without_done(usual: ScriptedReply, _: Seen) -> ScriptedReply:
    return usual if usual.chunks is None else replace(usual, chunks=usual.chunks[:-1])


def _refuse_stream_options(usual: ScriptedReply, seen: Seen) -> ScriptedReply:
    if "stream_options" not in (seen.json or {}):
        return usual
    return error_reply(400, "Unknown parameter: 'stream_options'.", param="stream_options")


def _error_event(usual: ScriptedReply, _: Seen) -> ScriptedReply:
    error = error_reply(503, "The server is overloaded", code="overloaded").body
    if usual.chunks is None:
        return replace(usual, body=error)
    return replace(usual, chunks=[*usual.chunks[:3], b"data: %b\n\n" % error], end="close")


def _bad_json(usual: ScriptedReply, _: Seen) -> ScriptedReply:
    if usual.chunks is None:
        return replace(usual, body=usual.body[:-1])
    event = b'data: {"id": "chatcmpl-mock", "choices": [{"delta": \n\n'
    return replace(usual, chunks=[*usual.chunks[:3], event, *usual.chunks[3:]])


def _line_ends(usual: ScriptedReply, end: bytes) -> ScriptedReply:
    return _each_chunk(usual, lambda _, chunk: [chunk.replace(b"\n", end)])


def _mixed_ends(usual: ScriptedReply, _: Seen) -> ScriptedReply:
    def mixed(index: int, chunk: bytes) -> Pieces:
        ended = chunk.rstrip(b"\n") + _LINE_ENDS[index % len(_LINE_ENDS)]
        return [ended[:-1], 0.0, ended[-1:]]

    return _each_chunk(usual, mixed)


def _comments(usual: ScriptedReply, _: Seen) -> ScriptedReply:
    def commented(index: int, chunk: bytes) -> Pieces:
        # Official clients take a comment that follows an id for an event without data.
        if index < 3:
            return [b": ping\n\n", b"event: message\n%b" % chunk]
        return [b": ping\nevent: message\nid: %d\nretry: 1500\n%b" % (index, chunk)]

    return _each_chunk(usual, commented)


def _byte_by_byte(usual: ScriptedReply, _: Seen) -> ScriptedReply:
    payload = usual.payload
    chunks: Pieces = [piece for i in range(len(payload)) for piece in (payload[i : i + 1], 0.0)]
    return replace(usual, chunks=chunks, framing=usual.wire_framing)


def _gzip(usual: ScriptedReply, _: Seen) -> ScriptedReply:
    usual = _with_headers(usual, ("Content-Encoding", "gzip"))
    packer = zlib.compressobj(wbits=31)
    if usual.chunks is None:
        return replace(usual, body=packer.compress(usual.body) + packer.flush())
    packed = [packer.compress(chunk) + packer.flush(zlib.Z_SYNC_FLUSH) for chunk in _data(usual)]
    return replace(usual, chunks=[*packed, packer.flush()])


def _gzip_cut(usual: ScriptedReply, seen: Seen) -> ScriptedReply:
    return replace(_cut(_gzip(usual, seen)), content_length=None, end="keep-alive")


def _hop_headers(usual: ScriptedReply, seen: Seen) -> ScriptedReply:
    return _with_headers(
        usual,
        ("Connection", "X-Foo"),
        ("X-Foo", "hop"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authenticate", "Basic"),
        ("Alt-Svc", 'h3=":443"'),
        ("Set-Cookie", "session=upstream-secret; Path=/"),
        ("Server", "mock"),
        ("Authorization", f"Bearer {seen.key}"),
        ("X-Goog-Api-Key", seen.key),
    )


def _html(_: ScriptedReply, __: Seen) -> ScriptedReply:
    page = b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"
    return ScriptedReply(status=502, reason="Bad Gateway", headers={"Content-Type": "text/html"}, body=page)


def _with_headers(usual: ScriptedReply, *pairs: tuple[str, str]) -> ScriptedReply:
    return replace(usual, headers=[*usual.header_pairs, *pairs])


def _slices(body: bytes, count: int) -> Pieces:
    size = max(1, -(-len(body) // count))
    return [body[i : i + size] for i in range(0, len(body), size)]


def _data(reply: ScriptedReply) -> list[bytes]:
    return [chunk for chunk in reply.chunks or () if isinstance(chunk, bytes)]


def _each_chunk(usual: ScriptedReply, change: Callable[[int, bytes], Pieces]) -> ScriptedReply:
    """Change the events of a stream; leave a whole reply alone."""
    if usual.chunks is None:
        return usual
    changed = (change(index, chunk) for index, chunk in enumerate(_data(usual)))
    return replace(usual, chunks=[piece for pieces in changed for piece in pieces])


_FAULTS: dict[str, Fault] = {
    "bad-header": lambda usual, _: _with_headers(usual, ("X-Bad", "a\x01b")),
    "bad-json": _bad_json,
    "big-header": lambda usual, _: _with_headers(usual, ("X-Big", "x" * 20 * 1024)),
    "bytes": _byte_by_byte,
    "chunk-cut": lambda usual, _: replace(_cut(usual), framing="chunked"),
    "close-delimited-no-done": lambda usual, seen: replace(_without_done(usual, seen), framing="close"),
    "comments": _comments,
    "cr": lambda usual, _: _line_ends(usual, b"\r"),
    "crlf": lambda usual, _: _line_ends(usual, b"\r\n"),
    "endless": _endless,
    "error-event": _error_event,
    "extra-bytes": _extra_bytes,
    "gzip": _gzip,
    "gzip-cut": _gzip_cut,
    "hop-headers": _hop_headers,
    "html-502": _html,
    "mixed-ends": _mixed_ends,
    "no-done": _without_done,
    "refuse-stream-options": _refuse_stream_options,
    "reset-mid": lambda usual, _: replace(_cut(usual), end="reset"),
    "short": _short,
    "stall": lambda usual, _: replace(_cut(usual), end="hang"),
}
_PARAMETRISED: tuple[tuple[re.Pattern[str], Callable[..., ScriptedReply]], ...] = (
    (re.compile(r"[45]\d\d"), _status),
    (re.compile(r"slow-(\d+(?:\.\d+)?)"), _slow),
    (re.compile(r"paced-(\d+(?:\.\d+)?)"), _paced),
    (re.compile(r"redirect-(?:(30[1278])-)?(.+)"), _redirect),
)
