"""Judges a request's body, whatever it is: JSON of any dialect, a form, lines, plain text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from raven_proxy import Exchange, InvalidRequest, splice

from .consulting import Asker, consult
from .forms import read_form
from .judging import RuleSet
from .passages import check_lengths, judge_passages
from .report import Report, blocked
from .texts import Passage, Slot, is_text, list_passages

__all__ = ["judge_request", "list_texts"]

_decode = msgspec.json.Decoder().decode


class _Judged(msgspec.Struct):
    """A body that was judged: its texts, how it is written, and whether anything changed."""

    passages: list[Passage]
    write: Callable[[], bytes]
    changed: bool


async def judge_request(exchange: Exchange, rules: RuleSet, report: Report, asker: Asker) -> bytes | None:
    """Judge a request's body, and the query where that goes up as it came; give another body if it changed.

    Raises Forbidden (`guardrail_blocked`), InvalidRequest for what cannot be judged.
    """
    if exchange.face.raw:
        _judge_query(exchange, rules, report)
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
        return _Judged(list_passages(document), lambda: _write(exchange, document), changed=False)
    text = is_text(body)
    if text is None:
        return _Judged([], lambda: body, changed=False)  # media
    holder = [text]
    return _Judged([(Slot(holder, 0, text),)], lambda: holder[0].encode(), changed=False)


def _read(body: bytes) -> Any:
    """Decode a JSON object or array; None for anything else, which is judged as it stands."""
    if body.lstrip()[:1] not in (b"{", b"["):
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


def _judge_query(exchange: Exchange, rules: RuleSet, report: Report) -> None:
    for value in exchange.request.query.values():
        holder = [value]
        if judge_passages(rules, [(Slot(holder, 0, value),)], report):
            rule = next(rule for (_, rule) in report.found if rule.enforces)
            raise blocked(rule, rules.direction, "It stands in the query, where nothing can be redacted.")
