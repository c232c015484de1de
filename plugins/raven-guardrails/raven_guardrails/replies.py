"""Judges a whole reply: a JSON document, or a stream that had to be collected."""

from __future__ import annotations

from typing import Any

import msgspec

from .answers import answers_of
from .charsets import charset_of, encode_text, read_text
from .consulting import Asker, consult
from .judging import RuleSet
from .passages import check_lengths, judge_passages
from .report import Report, blocked
from .slots import Passage
from .texts import list_passages

__all__ = ["drop_logprobs", "judge_answers", "judge_document", "judge_reply"]

_decode = msgspec.json.Decoder().decode


async def judge_reply(
    body: bytes, kind: str, dialect: str, rules: RuleSet, report: Report, asker: Asker, *, answers: bool
) -> bytes:
    """Judge a JSON reply, or a text; give it as it may go out.

    `kind` is the media type that it has, `answers` says whether it is a model's answer.

    Raises Forbidden (`guardrail_blocked`). Bytes that are no text are media, and pass.
    """
    if len(body) > rules.most_at_once:
        passages, document, is_json = await asker.threads.run(_judge_body, body, kind, rules, report)
    else:
        passages, document, is_json = _judge_body(body, kind, rules, report)
    if rules.webhooks:
        await consult(rules, [one[0] for one in passages if len(one) == 1], asker, report)
    if answers:
        said = answers_of(document, dialect)
        if len(body) > rules.most_at_once:
            await asker.threads.run(judge_answers, said, rules, report)
        else:
            judge_answers(said, rules, report)
    if not any(slot.changed for passage in passages for slot in passage):
        return body
    return msgspec.json.encode(document) if is_json else encode_text(document[0], charset_of(body))


def _judge_body(body: bytes, kind: str, rules: RuleSet, report: Report) -> tuple[list[Passage], Any, bool]:
    """Give the passages, what they are in, and whether that is JSON: a text stands in a list."""
    document = _read(body)
    is_json = document is not None
    if document is None:
        text = read_text(body, kind)
        document = [text] if text is not None else []
    return judge_document(document, rules, report), document, is_json


def _read(body: bytes) -> Any:
    try:
        document = _decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    return document if isinstance(document, dict | list) else None


def judge_document(document: Any, rules: RuleSet, report: Report) -> list[Passage]:
    """Judge a decoded document and redact it in place. Raises Forbidden."""
    passages = list_passages(document)
    check_lengths(rules, sum(len(one[0].text) for one in passages if len(one) == 1), report)
    if judge_passages(rules, passages, report):
        drop_logprobs(document)
    return passages


def judge_answers(answers: list[str] | None, rules: RuleSet, report: Report) -> None:
    """Judge what the model answers by the schemas; an answer that cannot be found matches none.

    Raises Forbidden.
    """
    for rule in rules.schemas:
        assert rule.schema is not None
        if answers is None or not all(map(rule.schema.accepts, answers)):
            report.note(rules.direction, rule)
            if rule.enforces:
                raise blocked(rule, rules.direction, "It does not match the schema.")


def drop_logprobs(value: Any) -> None:
    """Take out the tokens that spell what was redacted."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in ("logprobs", "logprobs_result", "logprobsResult") and inner:
                value[name] = [] if isinstance(inner, list) else None
            else:
                drop_logprobs(inner)
    elif isinstance(value, list):
        for inner in value:
            drop_logprobs(inner)
