"""Judges what is whole: the passages of a request or reply, one after the other."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence

import msgspec

from .judging import Edit, Found, RuleSet, edit, edits_of
from .report import Report, blocked
from .slots import Passage

__all__ = ["check_lengths", "edit_json", "judge_passages", "note_found"]

_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_OPENERS = ("{", "[")


def judge_passages(rules: RuleSet, passages: Iterable[Passage], report: Report) -> bool:
    """Find in every passage, and redact in place; say whether anything changed.

    Raises Forbidden (`guardrail_blocked`) at the first that blocks.
    """
    passages = list(passages)
    if not rules.may_find("".join([slot.text for slot in passage]) for passage in passages):
        return False
    changed = False
    for passage in passages:
        pieces = [slot.text for slot in passage]
        edits = edits_of(note_found(rules, rules.find("".join(pieces), is_brief=True), report))
        if not edits:
            continue
        changed = True
        if len(pieces) == 1 and pieces[0].lstrip()[:1] in _OPENERS:
            passage[0].write(edit_json(pieces[0], edits))
        else:
            for slot, text in zip(passage, edit(pieces, edits), strict=True):
                slot.write(text)
    return changed


def note_found(rules: RuleSet, found: Sequence[Found], report: Report) -> Sequence[Found]:
    """Note what was found, and give it back. Raises Forbidden if one of them blocks."""
    for one in found:
        report.note(rules.direction, one.rule)
    for one in found:
        if one.rule.enforces and one.rule.action == "block":
            raise blocked(one.rule, rules.direction)
    return found


def check_lengths(rules: RuleSet, characters: int, report: Report) -> None:
    """Judge how long all texts are together. Raises Forbidden."""
    for rule in rules.lengths:
        assert rule.most is not None
        if characters > rule.most and (rules.direction, rule) not in report.found:
            report.note(rules.direction, rule)
            if rule.enforces:
                raise blocked(rule, rules.direction, f"It is over {rule.most} characters.")


def edit_json(text: str, edits: Sequence[Edit]) -> str:
    """Apply edits to JSON so that it stays JSON: what stands for a bare number gets quotes."""
    strings = [match.span() for match in _STRING.finditer(text)]
    quoted = []
    for one in edits:
        number = bisect_left(strings, (one.start,)) - 1
        is_inside = number >= 0 and one.start < strings[number][1]
        quoted.append(one if is_inside else Edit(one.start, one.end, f'"{one.replacement}"'))
    (result,) = edit([text], quoted)
    if _is_json(text) and not _is_json(result):
        result = msgspec.json.encode({"redacted": edits[0].replacement}).decode()
    return result if _is_json(result) or not _is_json(text) else '"[REDACTED]"'


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return False
    return True
