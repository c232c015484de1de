"""Judges a request's body, whatever it is: JSON of any dialect, a form, lines, plain text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes, urlencode

import msgspec

from raven_proxy import Exchange, InvalidRequest, splice

from .charsets import charset_of, decode_text, encode_text, is_declared_text
from .consulting import Asker, consult
from .forms import read_form
from .judging import RuleSet
from .passages import check_lengths, judge_passages
from .report import Report, blocked
from .slots import Passage, Slot
from .texts import list_passages

__all__ = ["judge_request", "list_texts"]

_ERRORS = "surrogateescape"
_OPENERS = (b"{", b"[")
_BEYOND = re.compile(rb"[\x80-\xff]")
_TEXTS = ("prompt", "input", "inputs", "text", "texts", "context", "prompt_token_ids", "input_ids", "tokens")
_decode = msgspec.json.Decoder().decode


class _Judged(msgspec.Struct):
    """A body that was judged: its texts, how it is written, and whether anything changed."""

    passages: list[Passage]
    write: Callable[[], bytes]
    changed: bool
    document: Any = None  # if it is JSON


async def judge_request(exchange: Exchange, rules: RuleSet, report: Report, asker: Asker) -> bytes | None:
    """Judge a request's body, and its address where that goes up as it came; give another body if it changed.

    Raises Forbidden (`guardrail_blocked`), InvalidRequest for what cannot be judged.
    """
    if exchange.face.raw:
        _judge_target(exchange, rules, report)
    if len(exchange.body) > rules.most_at_once:
        judged = await asker.threads.run(_judge_body, exchange, rules, report)
    else:
        judged = _judge_body(exchange, rules, report)
    if rules.webhooks:
        slots = [one[0] for one in judged.passages if len(one) == 1]
        judged.changed |= await consult(rules, slots, asker, report)
    return judged.write() if judged.changed else None


def _judge_body(exchange: Exchange, rules: RuleSet, report: Report) -> _Judged:
    try:
        judged = _read_body(exchange)
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.", param="body") from None
    if rules.is_enforcing:
        _refuse_tokens(judged.document)
    passages = judged.passages
    if rules.lengths:
        check_lengths(rules, sum(len(one[0].text) for one in passages if len(one) == 1), report)
    judged.changed = judge_passages(rules, passages, report)
    return judged


def list_texts(exchange: Exchange) -> list[Passage]:
    """List what of a request's body is judged. Raises InvalidRequest for one that cannot be."""
    return _read_body(exchange).passages


def _read_body(exchange: Exchange) -> _Judged:
    body = exchange.body
    content_type = exchange.headers.get("content-type", "")
    if content_type[:20].lower().startswith("multipart/"):
        form = read_form(body, content_type)
        return _Judged(form.passages(), form.encode, changed=False)
    document = _read(body)
    if document is not None:
        return _Judged(list_passages(document), lambda: _write(exchange, document), False, document)
    if content_type[:33].lower().startswith("application/x-www-form-urlencoded"):
        return _read_pairs(body)
    text = decode_text(body, is_declared=is_declared_text(content_type) or body.lstrip()[:1] in _OPENERS)
    if text is None:
        return _Judged([], lambda: body, changed=False)  # media
    charset = charset_of(body)
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    document = _read(text[len(mark) :].encode("utf-8", _ERRORS))
    if document is not None:  # JSON in UTF-16, or behind a mark that says UTF-8

        def write() -> bytes:
            return encode_text(mark + msgspec.json.encode(document).decode(), charset)

        return _Judged(list_passages(document), write, False, document)
    holder = [text]
    return _Judged([(Slot(holder, 0, text),)], lambda: encode_text(holder[0], charset), changed=False)


def _read_pairs(body: bytes) -> _Judged:
    """Read a form whose names and values are percent-encoded."""
    pairs = _list_pairs(body)
    slots = [Slot(pair, index, pair[index]) for pair in pairs for index in (0, 1)]
    passages: list[Passage] = [(slot,) for slot in slots if slot.text]
    return _Judged(passages, lambda: _write_pairs(pairs), changed=False)


def _list_pairs(data: bytes) -> list[list[str]]:
    """List names and values; a byte that should have been percent-encoded counts as if it were."""
    quoted = _BEYOND.sub(lambda match: b"%%%02X" % match[0][0], data).decode("ascii")
    return [list(pair) for pair in parse_qsl(quoted, keep_blank_values=True, errors=_ERRORS)]


def _write_pairs(pairs: list[list[str]]) -> bytes:
    return urlencode([(name, value) for name, value in pairs], errors=_ERRORS).encode()


def _read(body: bytes) -> Any:
    """Decode a JSON object or array; None for anything else, which is judged as it stands."""
    if body.lstrip()[:1] not in _OPENERS:
        return None
    try:
        return _decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None


def _write(exchange: Exchange, document: Any) -> bytes:
    """Encode what changed: members of the object that did not keep their bytes."""
    body, members = exchange.body, exchange.call.members
    if not isinstance(document, dict) or not members:
        return msgspec.json.encode(document)
    before = _decode(body)
    for name, value in document.items():
        if name not in before or before[name] != value:
            body = splice.put(body, splice.scan(body), name, value)
    return body


def _judge_target(exchange: Exchange, rules: RuleSet, report: Report) -> None:
    """Judge the query, and the endpoint where nobody knows what stands in it: they go up as they came."""
    _, _, query = exchange.request.raw_path.partition("?")
    values = [value for pair in _list_pairs(query.encode("utf-8", _ERRORS)) for value in pair if value]
    if exchange.face.opaque:
        values.append(unquote_to_bytes(exchange.params["endpoint"]).decode("utf-8", _ERRORS))
    for value in values:
        holder = [value]
        if judge_passages(rules, [(Slot(holder, 0, value),)], report):
            rule = next(rule for (_, rule) in report.found if rule.enforces)
            raise blocked(rule, rules.direction, "It stands in the address, where nothing can be redacted.")


def _refuse_tokens(document: Any) -> None:
    """Refuse numbers in the place of a text: what they say cannot be judged."""
    for name in _TEXTS if isinstance(document, dict) else ():
        value = document.get(name)
        rows = value if isinstance(value, list) else []
        if any(map(_is_whole, rows)) or any(
            isinstance(row, list) and any(map(_is_whole, row)) for row in rows
        ):
            raise InvalidRequest("Send text: guardrails cannot judge tokens.", param=name)


def _is_whole(value: Any) -> bool:
    return type(value) is int or (type(value) is float and value.is_integer())
