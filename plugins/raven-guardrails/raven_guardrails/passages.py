"""Judges what is whole: the passages of a request or reply, one after the other."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence

import msgspec

from .judging import MARK, Edit, Found, RuleSet, edit, edits_of
from .report import Report, blocked
from .slots import Passage

__all__ = ["check_lengths", "edit_json", "judge_passages", "note_found", "redact"]

_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_OPENERS = ("{", "[")
_MOST_ROUNDS = 3


def judge_passages(rules: RuleSet, passages: Iterable[Passage], report: Report) -> bool:
    """Find in every passage, and redact in place; say whether anything changed.

    Raises Forbidden (`guardrail_blocked`) at the first that blocks.
    """
    passages = list(passages)
    if not rules.may_find("".join([slot.text for slot in passage]) for passage in passages):
        return False
    changed = [passage for passage in passages if _judge(rules, passage, report)]
    if changed:
        for passage in passages:  # what each of the texts lost may have made something of them together
            if len(passage) > 1 and any(slot.changed for slot in passage):
                _ = _judge(rules, passage, report, is_again=True)
    return bool(changed)


def _judge(rules: RuleSet, passage: Passage, report: Report, *, is_again: bool = False) -> bool:
    pieces = [slot.text for slot in passage]
    found = _find_left(rules, pieces) if is_again else rules.find("".join(pieces), is_brief=True)
    edits = edits_of(note_found(rules, found, report))
    if not edits:
        return False
    texts = redact(rules, pieces, edits, report)
    for slot, text in zip(passage, texts, strict=True):
        slot.write(text)
    return True


def redact(rules: RuleSet, pieces: Sequence[str], edits: Sequence[Edit], report: Report) -> list[str]:
    """Apply edits to what the pieces are when joined, and again where that made a match of what was left.

    From the second time on a mark stands for what goes, so that nothing is joined; what cannot be settled
    so goes as a whole. Raises Forbidden, if something for one that blocks came of it.
    """
    texts = _apply(pieces, edits)
    for _ in range(_MOST_ROUNDS):
        left = _find_left(rules, texts)
        edits = edits_of(note_found(rules, left, report))
        if not edits:
            return texts
        texts = _apply(texts, [Edit(one.start, one.end, MARK) for one in edits])
    return texts if not edits_of(_find_left(rules, texts)) else [MARK, *[""] * (len(texts) - 1)]


def _find_left(rules: RuleSet, texts: Sequence[str]) -> list[Found]:
    """Find what is in texts that were redacted, but for what somebody put there to stand for something."""
    text = "".join(texts)
    own = {MARK, *(rule.replacement for rule in rules.finding)}
    found = [one for one in rules.find(text, is_brief=True) if one.rule.enforces]
    return [one for one in found if not any(_is_within(one, text, replacement) for replacement in own)]


def _is_within(one: Found, text: str, replacement: str) -> bool:
    size = len(replacement)
    return (
        one.end - one.start <= size and text.find(replacement, max(0, one.end - size), one.start + size) >= 0
    )


def _apply(pieces: Sequence[str], edits: Sequence[Edit]) -> list[str]:
    if len(pieces) == 1 and pieces[0].lstrip()[:1] in _OPENERS and not pieces[0].startswith(MARK):
        return [edit_json(pieces[0], edits)]
    return edit(pieces, edits)


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
    return result if _is_json(result) or not _is_json(text) else f'"{MARK}"'


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return False
    return True
